{#- Names of all vars of this project, including churn__<table>_source and churn__<table>_columns of each raw table. -#}
{% macro allowed_vars() %}
    {% set known = churn_radar.integer_vars().keys() | list + [
        'churn__enabled',
        'churn__as_of_date', 'churn__complaint_from', 'churn__train', 'churn__transformer', 'churn__transformer_settings', 'churn__customer_attributes',
        'churn__retrain_drift_share', 'churn__max_row_drop', 'churn__allow_empty', 'churn__band_medium', 'churn__band_high', 'churn__band_critical',
        'churn__monitoring_severity', 'churn__drift_limit', 'churn__auroc_drop_limit',
        'churn__alert_band', 'churn__pseudonymise', 'churn__margin', 'churn__budget', 'churn__action_caps',
        'churn__holdout_share', 'churn__explore_share',
    ] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do known.extend(['churn__' ~ contract.name ~ '_source', 'churn__' ~ contract.name ~ '_columns']) %}
    {% endfor %}
    {{ return(known) }}
{% endmacro %}


{#- Integer vars with their minimum and maximum. -#}
{% macro integer_vars() %}
    {{ return({
        'churn__horizon_days': [1, 365],
        'churn__activity_days': [1, 1825],
        'churn__min_orders': [1, 1000],
        'churn__snapshot_every_days': [1, 28],
        'churn__training_rows': [1000, 100000000],
        'churn__contact_rows': [0, 100000000],
        'churn__history_days': [365, 3650],
        'churn__lookback_days': [0, 60],
        'churn__keep_snapshots_days': [1, 3650],
        'churn__trials': [0, 1000],
        'churn__retrain_windows': [1, 1000],
        'churn__value_days': [1, 3650],
        'churn__campaign_days': [1, 365],
        'churn__contact_every_days': [0, 365],
        'churn__stale_days': [0, 365],
        'churn__min_group': [2, 1000000],
        'churn__recommend_after_days': [0, 365],
    }) }}
{% endmacro %}


{#- One error line per user var that does not exist, suggesting the allowed var with the most similar name. -#}
{% macro unknown_vars() %}
    {% set problems = [] %}
    {% set known = churn_radar.allowed_vars() %}
    {% for name in churn_radar.user_vars() if name.startswith('churn__') and name not in known %}
        {% set nearest = run_query(
            "select name from (values ('" ~ known | join("'), ('") ~ "')) as known (name)"
            ~ " order by levenshtein(name, '" ~ name | replace("'", "''") ~ "'), name limit 1"
        ).rows[0][0] %}
        {% do problems.append(name ~ ': no such var; did you mean ' ~ nearest ~ '?') %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- Names of the vars set on the command line and in dbt_project.yml. -#}
{% macro user_vars() %}
    {% set given = invocation_args_dict.get('vars') or {} %}
    {% set names = (fromyaml(given) if given is string else given).keys() | list %}
    {% for name, value in churn_radar.project_vars().items() %}
        {#- vars of a package may be nested under its name -#}
        {% do names.extend(value.keys() | list if value is mapping and name == 'churn_radar' else [name]) %}
    {% endfor %}
    {{ return(names | unique | list) }}
{% endmacro %}


{#- The vars of dbt_project.yml, which is read through the warehouse, as Jinja cannot read files. -#}
{% macro project_vars() %}
    {% if churn_radar.is_spark() %}{{ return(adapter.project_vars()) }}{% endif %}
    {% set file = (invocation_args_dict.get('project_dir') or '.') ~ '/dbt_project.yml' %}
    {% set text = run_query("select content from read_text('" ~ file | replace("'", "''") ~ "')").rows %}
    {{ return(fromyaml(text[0][0]).get('vars') or {} if text else {}) }}
{% endmacro %}


{#- Whether the command builds models of this package and, with `alone`, nothing of another. -#}
{% macro is_selected(alone=false) %}
    {% set packages, builds = [], [] %}
    {% for id in selected_resources %}
        {% do packages.append(id.split('.')[1]) %}
        {% do builds.append(id.startswith('model.churn_radar.')) %}
    {% endfor %}
    {{ return(flags.WHICH in ('build', 'run', 'retry') and true in builds and (not alone or packages | unique | list == ['churn_radar'])) }}
{% endmacro %}


{#- Error line if the profile, or another package, does not let this package work; more cannot be checked then. -#}
{% macro project_problems() %}
    {% if target.type not in ('duckdb', 'sparkpython') %}
        {{ return(['target ' ~ target.name ~ ' of profile ' ~ target.profile_name ~ ' is of type ' ~ target.type ~ '; expected duckdb, or sparkpython of this package']) }}
    {% elif not churn_radar.is_spark() and run_query("select getvariable('churn_salt') is null").rows[0][0] %}
        {{ return([
            'target ' ~ target.name ~ ' of profile ' ~ target.profile_name ~ ' lacks the plugin; add to it: '
            ~ "plugins: [{module: inference.warehouse.plugin, config: {home: \"{{ env_var('CHURN_HOME', '.churn') }}\"}}]"
        ]) }}
    {% endif %}
    {% if project_name != 'churn_radar' and not env_var('CHURN_HOME', '').startswith('/') %}
        {{ return(['CHURN_HOME is ' ~ env_var('CHURN_HOME', 'not set') ~ '; expected an absolute folder where churn_radar is a package']) }}
    {% endif %}
    {% set raw = churn_radar.raw_contracts() | map(attribute='name') %}
    {% set named = [] %}
    {% for table in raw %}
        {% set node = churn_radar.named_node(var('churn__' ~ table ~ '_source', none)) %}
        {% do named.append(node.unique_id if node) %}
    {% endfor %}
    {% for node in graph.nodes.values() if node.package_name == 'churn_radar' %}
        {% for parent in node.depends_on.nodes if parent.split('.')[1] != 'churn_radar' and parent not in named %}
            {{ return([
                parent ~ ' has the name of a node of churn_radar, and ' ~ node.name ~ ' would read it;'
                ~ ' add to dbt_project.yml: flags: {require_ref_searches_node_package_before_root: true}'
            ]) }}
        {% endfor %}
    {% endfor %}
    {{ return([]) }}
{% endmacro %}


{#- Stop the run before any model is built if a var does not exist or is out of range; one message lists every problem. -#}
{% macro check_configuration() %}
    {% if not execute or not churn_radar.is_selected() %}{{ return('') }}{% endif %}
    {{ churn_radar.raise_problems(churn_radar.project_problems()) }}
    {% set problems = churn_radar.unknown_vars() %}
    {% for name, limits in churn_radar.integer_vars().items() %}
        {% set value = var(name) %}
        {% if value is not integer or value is boolean or value < limits[0] or value > limits[1] %}
            {% do problems.append(name ~ ' is ' ~ value ~ '; expected a whole number from ' ~ limits[0] ~ ' to ' ~ limits[1]) %}
        {% endif %}
    {% endfor %}
    {% set enabled, parts = var('churn__enabled'), ['scores', 'retention', 'text', 'online'] %}
    {% if enabled is string or enabled is not sequence or enabled | reject('in', parts) | list %}
        {% do problems.append('churn__enabled is ' ~ enabled ~ '; expected a list of ' ~ parts | join(', ')) %}
    {% elif 'scores' not in enabled and enabled | select('in', ['retention', 'online']) | list %}
        {% do problems.append('churn__enabled is ' ~ enabled ~ '; retention and online need scores as well') %}
    {% endif %}
    {% if var('churn__train') not in ['if_missing', 'auto', 'always', 'never'] %}
        {% do problems.append('churn__train is ' ~ var('churn__train') ~ '; expected if_missing, auto, always or never') %}
    {% endif %}
    {% if var('churn__alert_band') not in ['medium', 'high', 'critical'] %}
        {% do problems.append('churn__alert_band is ' ~ var('churn__alert_band') ~ '; expected medium, high or critical') %}
    {% endif %}
    {% for name in ['churn__retrain_drift_share', 'churn__max_row_drop'] %}
        {% if var(name) is not number or not 0 < var(name) <= 1 %}
            {% do problems.append(name ~ ' is ' ~ var(name) ~ '; expected a number above 0 and at most 1') %}
        {% endif %}
    {% endfor %}
    {% for name in ['churn__transformer', 'churn__allow_empty'] if var(name) is not boolean %}
        {% do problems.append(name ~ ' is ' ~ var(name) ~ '; expected true or false') %}
    {% endfor %}
    {% if var('churn__transformer_settings') is not mapping %}
        {% do problems.append('churn__transformer_settings is ' ~ var('churn__transformer_settings') ~ '; expected a mapping such as {fine_tuning: lora}') %}
    {% endif %}
    {% set bands = [var('churn__band_medium'), var('churn__band_high'), var('churn__band_critical')] %}
    {% if bands | reject('number') | list or not 0 < bands[0] < bands[1] < bands[2] < 1 %}
        {% do problems.append('churn__band_medium, churn__band_high, churn__band_critical are ' ~ bands | join(', ') ~ '; expected increasing numbers between 0 and 1') %}
    {% endif %}
    {% for name, maximum in {'churn__drift_limit': 20, 'churn__auroc_drop_limit': 1}.items() %}
        {% set value = var(name) %}
        {% if value is not number or value is boolean or not 0 < value <= maximum %}
            {% do problems.append(name ~ ' is ' ~ value ~ '; expected a number above 0 and at most ' ~ maximum) %}
        {% endif %}
    {% endfor %}
    {% do problems.extend(churn_radar.decision_problems()) %}
    {% set as_of_date = var('churn__as_of_date') %}
    {% set is_written_as_date = modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', as_of_date | string) %}
    {% if as_of_date is not none and not (is_written_as_date and run_query("select try_cast('" ~ as_of_date ~ "' as date)").rows[0][0]) %}
        {% do problems.append('churn__as_of_date is ' ~ as_of_date ~ '; expected a date such as 2017-12-01') %}
    {% endif %}
    {% set attributes = var('churn__customer_attributes') %}
    {% if attributes is string or attributes is not sequence or attributes | reject('string') | list %}
        {% do problems.append('churn__customer_attributes is ' ~ attributes ~ '; expected a list of columns of customers, such as [country]') %}
    {% else %}
        {% do problems.extend(churn_radar.personal_problems()) %}
    {% endif %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do problems.extend(churn_radar.mapping_problems(contract)) %}
    {% endfor %}
    {{ churn_radar.raise_problems(problems) }}
{% endmacro %}


{#- Error lines for the vars of retention decisions. -#}
{% macro decision_problems() %}
    {% set problems = [] %}
    {% for name in ['churn__margin', 'churn__holdout_share', 'churn__explore_share'] %}
        {% if var(name) is not number or var(name) is boolean or not 0 <= var(name) <= 1 %}
            {% do problems.append(name ~ ' is ' ~ var(name) ~ '; expected a number from 0 to 1') %}
        {% endif %}
    {% endfor %}
    {% set budget = var('churn__budget') %}
    {% if budget is not none and (budget is not number or budget is boolean or budget < 0) %}
        {% do problems.append('churn__budget is ' ~ budget ~ '; expected a sum of money, 0 or more, or null for no limit') %}
    {% endif %}
    {% set caps = var('churn__action_caps') %}
    {% if caps is not mapping or caps.values() | reject('integer') | list or caps.values() | select('lt', 0) | list %}
        {% do problems.append('churn__action_caps is ' ~ caps ~ '; expected whole numbers by action, such as {service_call: 200}') %}
    {% endif %}
    {{ return(problems) }}
{% endmacro %}


{#- Error lines for churn__<table>_columns that need no look at the table. -#}
{% macro mapping_problems(contract) %}
    {% set problems = [] %}
    {% set name = 'churn__' ~ contract.name ~ '_columns' %}
    {% set mapping = var(name, none) or {} %}
    {% set columns = contract.columns.values() | map(attribute='name') | list %}
    {% if mapping is not mapping %}
        {{ return([name ~ ' is ' ~ mapping ~ "; expected a mapping such as {" ~ columns[0] ~ ': id}']) }}
    {% endif %}
    {% for column in mapping if column not in columns %}
        {% do problems.append(name ~ '.' ~ column ~ ': ' ~ contract.name ~ ' has no such column; expected one of ' ~ columns | join(', ')) %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- Raise a compiler error with one line per problem. -#}
{% macro raise_problems(problems) %}
    {% if problems %}
        {% do exceptions.raise_compiler_error('Churn Radar cannot start:\n  ' ~ problems | join('\n  ')) %}
    {% endif %}
{% endmacro %}
