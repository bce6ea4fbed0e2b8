{#- What each var of dbt_project.yml must be: its kind, and the range or the choices. -#}
{% macro expected_vars() %}
    {{ return({
        'churn__enabled': ['parts', ['scores', 'retention', 'text', 'online']],
        'churn__horizon_days': ['whole', 1, 365],
        'churn__activity_days': ['whole', 1, 1825],
        'churn__min_orders': ['whole', 1, 1000],
        'churn__snapshot_every_days': ['whole', 1, 28],
        'churn__training_rows': ['whole', 1000, 100000000],
        'churn__contact_rows': ['whole', 0, 100000000],
        'churn__history_days': ['whole', 365, 3650],
        'churn__lookback_days': ['whole', 0, 60],
        'churn__keep_snapshots_days': ['whole', 1, 3650],
        'churn__max_row_drop': ['above', 0, 1],
        'churn__allow_empty': ['boolean'],
        'churn__as_of_date': ['date'],
        'churn__complaint_from': ['number', -2, 2],
        'churn__train': ['one of', ['if_missing', 'auto', 'always', 'never']],
        'churn__retrain_windows': ['whole', 1, 1000],
        'churn__retrain_drift_share': ['above', 0, 1],
        'churn__transformer': ['boolean'],
        'churn__transformer_settings': ['settings'],
        'churn__trials': ['whole', 0, 1000],
        'churn__band_medium': ['number', 0, 1],
        'churn__band_high': ['number', 0, 1],
        'churn__band_critical': ['number', 0, 1],
        'churn__alert_band': ['one of', ['medium', 'high', 'critical']],
        'churn__stale_days': ['whole', 0, 365],
        'churn__min_group': ['whole', 2, 1000000],
        'churn__recommend_after_days': ['whole', 0, 365],
        'churn__monitoring_severity': ['one of', ['warn', 'error']],
        'churn__drift_limit': ['above', 0, 20],
        'churn__auroc_drop_limit': ['above', 0, 1],
        'churn__margin': ['number', 0, 1],
        'churn__value_days': ['whole', 1, 3650],
        'churn__budget': ['budget'],
        'churn__action_caps': ['caps'],
        'churn__campaign_days': ['whole', 1, 365],
        'churn__contact_every_days': ['whole', 0, 365],
        'churn__holdout_share': ['number', 0, 1],
        'churn__explore_share': ['number', 0, 1],
        'churn__customer_attributes': ['attributes'],
        'churn__pseudonymise': ['boolean'],
    }) }}
{% endmacro %}


{#- Error lines, one or none, for the value of a var. -#}
{% macro value_problems(name, value) %}
    {% set kind, first, last = (churn_radar.expected_vars()[name] + [none, none])[:3] %}
    {% set is_list = value is sequence and value is not string and value is not mapping %}
    {% if kind in ['whole', 'number', 'above'] %}
        {% set is_number = value is number and value is not boolean and (value is integer or kind != 'whole') %}
        {% set right = is_number and first <= value <= last and not (kind == 'above' and value == first) %}
        {% set words = {'whole': 'a whole number from %s to %s', 'number': 'a number from %s to %s', 'above': 'a number above %s and at most %s'} %}
        {% set expected = words[kind] % (first, last) %}
    {% elif kind == 'boolean' %}
        {% set right, expected = value is boolean, 'true or false' %}
    {% elif kind == 'one of' %}
        {% set right, expected = value is string and value in first, first[:-1] | join(', ') ~ ' or ' ~ first[-1] %}
    {% elif kind == 'parts' %}
        {% set right, expected = is_list and not value | reject('in', first) | list, 'a list of ' ~ first | join(', ') %}
    {% elif kind == 'attributes' %}
        {% set right, expected = is_list and not value | reject('string') | list, 'a list of columns of customers, such as [country]' %}
    {% elif kind == 'settings' %}
        {% set right, expected = value is mapping, 'a mapping such as {fine_tuning: lora}' %}
    {% elif kind == 'budget' %}
        {% set right = value is none or (value is number and value is not boolean and value >= 0) %}
        {% set expected = 'a sum of money, 0 or more, or null for no limit' %}
    {% elif kind == 'caps' %}
        {% set wrong = value.values() | reject('integer') | list or value.values() | select('lt', 0) | list if value is mapping else [value] %}
        {% set right, expected = not wrong, 'whole numbers by action, such as {service_call: 200}' %}
    {% elif kind == 'date' %}
        {% set is_written_as_date = modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', value | string) %}
        {% set right = value is none or (is_written_as_date and run_query("select try_cast('" ~ value ~ "' as date)").rows[0][0]) %}
        {% set expected = 'a date such as 2017-12-01' %}
    {% endif %}
    {{ return([] if right else [name ~ ' is ' ~ churn_radar.shown(value) ~ '; expected ' ~ expected]) }}
{% endmacro %}


{#- A value of a var as its user wrote it. -#}
{% macro shown(value) %}{{ return('null' if value is none else value | lower if value is boolean else value) }}{% endmacro %}


{#- One error line per user var that does not exist, suggesting the allowed var with the most similar name. -#}
{% macro unknown_vars() %}
    {% set problems = [] %}
    {% set known = churn_radar.expected_vars() | list %}
    {% for table in churn_radar.raw_tables() %}
        {% do known.extend(['churn__' ~ table ~ '_source', 'churn__' ~ table ~ '_columns']) %}
    {% endfor %}
    {#- those of the command line and of dbt_project.yml, where vars of a package may be nested under its name -#}
    {% set given = invocation_args_dict.get('vars') or {} %}
    {% set names = (fromyaml(given) if given is string else given).keys() | list %}
    {% for name, value in churn_radar.project_vars().items() %}
        {% do names.extend(value.keys() | list if value is mapping and name == 'churn_radar' else [name]) %}
    {% endfor %}
    {% for name in names | unique if name.startswith('churn__') and name not in known %}
        {% set nearest = run_query(
            "select name from (values ('" ~ known | join("'), ('") ~ "')) as known (name)"
            ~ " order by levenshtein(name, '" ~ name | replace("'", "''") ~ "'), name limit 1"
        ).rows[0][0] %}
        {% do problems.append(name ~ ': no such var; did you mean ' ~ nearest ~ '?') %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- The vars of dbt_project.yml, which is read through the warehouse, as Jinja cannot read files. -#}
{% macro project_vars() %}
    {% if churn_radar.is_spark() %}{{ return(adapter.project_vars()) }}{% endif %}
    {% set file = (invocation_args_dict.get('project_dir') or '.') ~ '/dbt_project.yml' %}
    {% set text = run_query("select content from read_text('" ~ file | replace("'", "''") ~ "')").rows %}
    {{ return(fromyaml(text[0][0]).get('vars') or {} if text else {}) }}
{% endmacro %}


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


{% macro check_configuration() %}
    {% if not execute %}
        {% for name in ['churn__enabled', 'churn__monitoring_severity'] %}
            {{ churn_radar.raise_problems(churn_radar.value_problems(name, var(name))) }}
        {% endfor %}
    {% endif %}
    {% if not execute or not churn_radar.is_selected() %}{{ return('') }}{% endif %}
    {{ churn_radar.raise_problems(churn_radar.project_problems()) }}
    {% set problems = churn_radar.unknown_vars() %}
    {% for name in churn_radar.expected_vars() %}
        {% do problems.extend(churn_radar.value_problems(name, var(name))) %}
    {% endfor %}
    {% set bands = [var('churn__band_medium'), var('churn__band_high'), var('churn__band_critical')] %}
    {% if not bands | reject('number') | list and not 0 < bands[0] < bands[1] < bands[2] < 1 %}
        {% do problems.append('churn__band_medium, churn__band_high, churn__band_critical are ' ~ bands | join(', ') ~ '; expected increasing numbers between 0 and 1') %}
    {% endif %}
    {% if 'scores' not in var('churn__enabled') and var('churn__enabled') | select('in', ['retention', 'online']) | list %}
        {% do problems.append('churn__enabled is ' ~ var('churn__enabled') ~ '; retention and online need scores as well') %}
    {% endif %}
    {% set scores = churn_radar.home_relation('published/churn_scores') if flags.EMPTY %}
    {% if scores and churn_radar.column_types(scores) and run_query('select count(*) from ' ~ scores).rows[0][0] %}
        {% do problems.append('--empty makes tables without rows, and this CHURN_HOME has published scores; expected an empty one for it') %}
    {% endif %}
    {#- dbt run loads no seeds -#}
    {% for seed in graph.nodes.values() if seed.resource_type == 'seed' and seed.unique_id not in selected_resources %}
        {% set readers = [] %}
        {% for node in graph.nodes.values() if node.unique_id in selected_resources and seed.unique_id in node.depends_on.nodes %}
            {% do readers.append(node.name) if node.package_name == 'churn_radar' and node.resource_type == 'model' %}
        {% endfor %}
        {% if readers and adapter.get_relation(seed.database, seed.schema, seed.alias) is none %}
            {% do problems.append(seed.name ~ ': the seed is not loaded, and ' ~ readers[0] ~ ' reads it; expected dbt seed first, or dbt build') %}
        {% endif %}
    {% endfor %}
    {% do problems.extend(churn_radar.personal_problems()) %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do problems.extend(churn_radar.source_problems(contract)) %}
    {% endfor %}
    {{ churn_radar.raise_problems(problems) }}
{% endmacro %}


{#- Error lines for churn__<table>_source and churn__<table>_columns that need no look at the table. -#}
{% macro source_problems(contract) %}
    {% set problems = [] %}
    {% set source, name = var('churn__' ~ contract.name ~ '_source', none), 'churn__' ~ contract.name ~ '_columns' %}
    {% if source is not none and source is not string %}
        {% do problems.append('churn__' ~ contract.name ~ '_source is ' ~ churn_radar.shown(source) ~ "; expected a table, or ref('model') or source('name', 'table') as text") %}
    {% endif %}
    {% set mapping = churn_radar.column_mapping(contract.name) %}
    {% set columns = contract.columns.values() | map(attribute='name') | list %}
    {% if var(name, none) is not none and var(name) is not mapping %}
        {% do problems.append(name ~ ' is ' ~ churn_radar.shown(var(name)) ~ "; expected a mapping such as {" ~ columns[0] ~ ': id}') %}
    {% endif %}
    {% for column, read in mapping.items() if read is not none and read is not string and read is not number %}
        {% do problems.append(name ~ '.' ~ column ~ ' is ' ~ read ~ '; expected a column, an SQL expression, or null to leave it out') %}
    {% endfor %}
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
