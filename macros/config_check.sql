{#- Vars that are not numbers with a range; every raw table has churn__<table>_source and _columns besides. -#}
{% macro known_vars() %}
    {% set known = churn_radar.whole_numbers().keys() | list + [
        'churn__as_of_date', 'churn__complaint_from', 'churn__train', 'churn__transformer', 'churn__customer_attributes',
        'churn__pseudonymise',
        'churn__band_medium', 'churn__band_high', 'churn__band_critical',
    ] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do known.extend(['churn__' ~ contract.name ~ '_source', 'churn__' ~ contract.name ~ '_columns']) %}
    {% endfor %}
    {{ return(known) }}
{% endmacro %}


{#- Vars that are whole numbers, with the lowest and the highest. -#}
{% macro whole_numbers() %}
    {{ return({
        'churn__horizon_days': [1, 365],
        'churn__activity_days': [1, 1825],
        'churn__min_orders': [1, 1000],
        'churn__snapshot_every_days': [1, 28],
        'churn__training_rows': [1000, 100000000],
        'churn__history_days': [365, 3650],
        'churn__lookback_days': [0, 60],
        'churn__keep_snapshots_days': [1, 3650],
        'churn__trials': [0, 1000],
    }) }}
{% endmacro %}


{#- A line for each var of a user that Churn Radar does not know, with the nearest name that it knows. -#}
{% macro unknown_vars() %}
    {% set problems = [] %}
    {% set known = churn_radar.known_vars() %}
    {% for name in churn_radar.given_vars() if name.startswith('churn__') and name not in known %}
        {% set nearest = run_query(
            "select name from (values ('" ~ known | join("'), ('") ~ "')) as known (name)"
            ~ " order by levenshtein(name, '" ~ name | replace("'", "''") ~ "'), name limit 1"
        ).rows[0][0] %}
        {% do problems.append(name ~ ': no such var; did you mean ' ~ nearest ~ '?') %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- Names of the vars that the command line and the project give, as far as the warehouse lets them be read. -#}
{% macro given_vars() %}
    {{ return(adapter.dispatch('given_vars', 'churn_radar')()) }}
{% endmacro %}

{% macro default__given_vars() %}
    {% set vars = invocation_args_dict.get('vars') or {} %}
    {{ return((fromyaml(vars) if vars is string else vars).keys() | list) }}
{% endmacro %}

{% macro duckdb__given_vars() %}
    {% set names = churn_radar.default__given_vars() %}
    {% set file = (invocation_args_dict.get('project_dir') or '.') ~ '/dbt_project.yml' %}
    {% set text = run_query("select content from read_text('" ~ file | replace("'", "''") ~ "')").rows %}
    {% for name, value in (fromyaml(text[0][0]).get('vars') or {} if text else {}).items() %}
        {#- a package's own vars are nested under its name -#}
        {% do names.extend(value.keys() | list if value is mapping and name == 'churn_radar' else [name]) %}
    {% endfor %}
    {{ return(names | unique | list) }}
{% endmacro %}


{#- Refuse vars that do not exist or lie outside their range, all in one message, before anything is built. -#}
{% macro check_configuration() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {% set problems = churn_radar.unknown_vars() %}
    {% for name, limits in churn_radar.whole_numbers().items() %}
        {% set value = var(name) %}
        {% if value is not integer or value is boolean or value < limits[0] or value > limits[1] %}
            {% do problems.append(name ~ ' is ' ~ value ~ '; expected a whole number from ' ~ limits[0] ~ ' to ' ~ limits[1]) %}
        {% endif %}
    {% endfor %}
    {% if var('churn__train') not in ['if_missing', 'always', 'never'] %}
        {% do problems.append('churn__train is ' ~ var('churn__train') ~ '; expected if_missing, always or never') %}
    {% endif %}
    {% if var('churn__transformer') is not boolean %}
        {% do problems.append('churn__transformer is ' ~ var('churn__transformer') ~ '; expected true or false') %}
    {% endif %}
    {% set bands = [var('churn__band_medium'), var('churn__band_high'), var('churn__band_critical')] %}
    {% if bands | reject('number') | list or not 0 < bands[0] < bands[1] < bands[2] < 1 %}
        {% do problems.append('churn__band_medium, churn__band_high, churn__band_critical are ' ~ bands | join(', ') ~ '; expected rising numbers between 0 and 1') %}
    {% endif %}
    {% set as_of_date = var('churn__as_of_date') %}
    {% if as_of_date is not none and not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', as_of_date | string) %}
        {% do problems.append('churn__as_of_date is ' ~ as_of_date ~ '; expected a date such as 2017-12-01') %}
    {% endif %}
    {% do problems.extend(churn_radar.personal_problems()) %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do problems.extend(churn_radar.mapping_problems(contract)) %}
    {% endfor %}
    {{ churn_radar.raise_problems(problems) }}
{% endmacro %}


{#- What is wrong with churn__<table>_columns as such. -#}
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


{#- Refuse raw tables that do not keep the data contract, all in one message, before anything is built. -#}
{% macro check_raw_tables() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {% set problems = [] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% set table = contract.name %}
        {% set found = churn_radar.column_types(churn_radar.raw_source(table)) %}
        {% set missing = churn_radar.missing_columns(table, found or {}) %}
        {% set types = none if missing else churn_radar.raw_column_types(table) %}
        {% set relation = churn_radar.raw_relation(table) if types is not none else churn_radar.raw_source(table) %}
        {% if found is none and contract.meta.required %}
            {% do problems.append(table ~ ': no such table; expected the file ' ~ relation ~ ', or a relation in the var churn__' ~ table ~ '_source') %}
        {% elif missing and found is not none %}
            {% do problems.extend(missing) %}
        {% elif types is not none %}
            {% for column in churn_radar.read_columns(table) %}
                {% if column.name not in types %}
                    {% if column.meta.get('required') %}
                        {% do problems.append(table ~ '.' ~ column.name ~ ': the column is missing; expected ' ~ column.data_type) %}
                    {% endif %}
                {% else %}
                    {% do problems.extend(churn_radar.type_problems(table, relation, column, types[column.name])) %}
                {% endif %}
            {% endfor %}
            {% if table == 'customers' %}
                {% for attribute in var('churn__customer_attributes') if attribute | lower not in types %}
                    {% do problems.append('customers.' ~ attribute ~ ': named in churn__customer_attributes, but the column is missing') %}
                {% endfor %}
            {% endif %}
        {% endif %}
    {% endfor %}
    {% if not problems %}
        {% do problems.extend(churn_radar.order_problems()) %}
    {% endif %}
    {{ churn_radar.raise_problems(problems) }}
{% endmacro %}


{#- Columns that churn__<table>_columns names, but the shop's table lacks; an expression speaks for itself. -#}
{% macro missing_columns(table, types) %}
    {% set problems = [] %}
    {% for column, expression in (var('churn__' ~ table ~ '_columns', none) or {}).items() %}
        {% if modules.re.fullmatch('[A-Za-z_][A-Za-z_0-9]*', expression | string) and expression | lower not in types %}
            {% do problems.append('churn__' ~ table ~ '_columns.' ~ column ~ ': ' ~ churn_radar.raw_source(table) ~ ' has no column ' ~ expression ~ '; it has ' ~ types.keys() | join(', ')) %}
        {% endif %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- What keeps a raw column from being read as the contract's type. -#}
{% macro type_problems(table, relation, column, type) %}
    {% set families = {'varchar': 'text', 'double': 'number', 'timestamp': 'timestamp'} %}
    {% set expected = families[column.data_type] %}
    {% if type.startswith('VARCHAR') %}
        {% set found = 'text' %}
    {% elif type.startswith(('TIMESTAMP', 'DATE')) %}
        {% set found = 'timestamp' %}
    {% elif type.startswith(('DECIMAL', 'FLOAT', 'DOUBLE', 'REAL')) or 'INT' in type %}
        {% set found = 'number' %}
    {% else %}
        {% set found = type %}
    {% endif %}
    {% set name = table ~ '.' ~ column.name %}
    {% if type == '"NULL"' or expected == found or (expected == 'text' and (found == 'number' or type == 'UUID')) %}
        {{ return([]) }}
    {% elif found == 'text' %}
        {% set quoted = adapter.quote(column.name) %}
        {% set bad = run_query(
            'select count(*), min(' ~ quoted ~ ') from ' ~ relation
            ~ ' where ' ~ quoted ~ ' is not null and try_cast(' ~ quoted ~ ' as ' ~ column.data_type ~ ') is null'
        ).rows[0] %}
        {% if bad[0] == 0 %}{{ return([]) }}{% endif %}
        {{ return([name ~ ': ' ~ bad[0] ~ ' values cannot be read as ' ~ column.data_type ~ ", for example '" ~ bad[1] ~ "'"]) }}
    {% else %}
        {{ return([name ~ ': the type is ' ~ type ~ '; expected ' ~ column.data_type]) }}
    {% endif %}
{% endmacro %}


{#- What is wrong with the orders themselves; their columns are known to be right. -#}
{% macro order_problems() %}
    {% set checked = churn_radar.checked_rows('orders') %}
    {% set summary = run_query(
        "select count(*), count(case when rejection_reason is null and status = 'completed' then 1 end),"
        ~ " min(case when rejection_reason is null and status = 'completed' then cast(ordered_at as date) end),"
        ~ " min(case when status not in ('completed', 'cancelled', 'returned') then status end)"
        ~ " from (" ~ checked ~ ") as checked"
    ).rows[0] %}
    {% set as_of_date = var('churn__as_of_date') %}
    {% if summary[0] == 0 %}
        {{ return(['orders: the table is empty; expected at least one completed order']) }}
    {% elif summary[3] is not none %}
        {{ return(["orders.status: found '" ~ summary[3] ~ "'; expected completed, cancelled or returned"]) }}
    {% elif summary[1] == 0 %}
        {{ return(['orders: none of ' ~ summary[0] ~ ' rows is a possible completed order; expected at least one']) }}
    {% elif as_of_date is not none and as_of_date | string <= summary[2] | string %}
        {{ return(['churn__as_of_date is ' ~ as_of_date ~ ', but the first completed order is of ' ~ summary[2] ~ '; expected a later date']) }}
    {% endif %}
    {{ return([]) }}
{% endmacro %}


{#- Stop the run with one line per problem. -#}
{% macro raise_problems(problems) %}
    {% if problems %}
        {% do exceptions.raise_compiler_error('Churn Radar cannot start:\n  ' ~ problems | join('\n  ')) %}
    {% endif %}
{% endmacro %}
