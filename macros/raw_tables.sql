{#- Reads raw tables by the data contract in models/staging/raw.yml. -#}

{#- The source nodes of all raw tables in dbt's graph, with columns and meta. -#}
{% macro raw_contracts() %}
    {{ return(graph.sources.values() | selectattr('package_name', 'equalto', 'churn_radar') | selectattr('source_name', 'equalto', 'raw') | list) }}
{% endmacro %}


{#- The source node of one raw table. -#}
{% macro raw_contract(table) %}
    {% for node in churn_radar.raw_contracts() if node.name == table %}
        {{ return(node) }}
    {% endfor %}
    {% do exceptions.raise_compiler_error("no raw table is named '" ~ table ~ "'; models/staging/raw.yml lists them") %}
{% endmacro %}


{#-
    Relation of a raw table: churn__<table>_source, which is a dbt source as 'source.table' or any relation, else the
    Parquet file.
-#}
{% macro raw_source(table) %}
    {% set named = var('churn__' ~ table ~ '_source', none) %}
    {% if not execute %}{{ return(source('raw', table)) }}{% endif %}
    {% for node in graph.sources.values() if node.source_name ~ '.' ~ node.name == named %}
        {{ return(node.relation_name) }}
    {% endfor %}
    {{ return((churn_radar.postgres_table(named) or named) if named else churn_radar.raw_file(table)) }}
{% endmacro %}


{#- The relation of PostgreSQL that 'schema.table' names; none where it names another, or dbt builds elsewhere. -#}
{% macro postgres_table(name) %}
    {% if not churn_radar.is_postgres() or not modules.re.fullmatch('\\w+[.]\\w+', name) %}{{ return(none) }}{% endif %}
    {% set schema, table = name.split('.') %}
    {{ return(adapter.get_relation(target.database, schema, table)) }}
{% endmacro %}


{#- Relation of a raw table's Parquet file; with PostgreSQL, a table of its schema raw comes first. -#}
{% macro raw_file(table) %}
    {% if churn_radar.is_spark() %}
        {{ return(adapter.file_relation(churn_radar.raw_contract(table).meta.external_location.replace('{name}', table))) }}
    {% endif %}
    {#- dbt-duckdb's sources are files -#}
    {{ return(churn_radar.postgres_table('raw.' ~ table) or source('raw', table)) }}
{% endmacro %}


{#-
    A raw table with the contract's column names, plus the events accepted by the service. churn__<table>_columns maps
    a column of the contract to a column of the shop or an SQL expression; other columns keep their names.
-#}
{% macro raw_relation(table) %}
    {% set relation = churn_radar.raw_source(table) %}
    {% if not execute %}{{ return(relation) }}{% endif %}
    {% set mapping = var('churn__' ~ table ~ '_columns', none) or {} %}
    {% set logged = churn_radar.column_types(churn_radar.logged_events(table)) %}
    {% set types = churn_radar.column_types(relation) if mapping or logged is not none else none %}
    {% if types is none %}{{ return(relation if logged is none else churn_radar.logged_events(table)) }}{% endif %}
    {% set selected = [] %}
    {% for name, expression in mapping.items() %}
        {#- quoted, as a column's name may be an SQL keyword -#}
        {% set read = adapter.quote(expression) if expression | lower in types else expression %}
        {% do selected.append(read ~ ' as ' ~ adapter.quote(name)) %}
    {% endfor %}
    {% set contract = churn_radar.read_columns(table) | map(attribute='name') | list %}
    {% set attributes = var('churn__customer_attributes') if table == 'customers' else [] %}
    {% for name in contract + attributes if name not in mapping and name | lower in types %}
        {% do selected.append(adapter.quote(name)) %}
    {% endfor %}
    {% set own = 'select ' ~ selected | join(', ') ~ ' from ' ~ relation ~ ' as raw_rows' %}
    {% if logged is none %}{{ return('(' ~ own ~ ')') }}{% endif %}
    {{ return(churn_radar.with_logged_events(table, own, 'loaded_at' in mapping or 'loaded_at' in types)) }}
{% endmacro %}


{#-
    The shop's rows of a raw table and the events accepted by the service. If the shop's rows have loaded_at, staging
    keeps the later version of a key; if not, an event is dropped where the shop has a row of the same key.
-#}
{% macro with_logged_events(table, own, has_loaded_at) %}
    {% set logged = churn_radar.logged_events(table) %}
    {% set key = churn_radar.raw_contract(table).meta.primary_key[0] %}
    {% set read = churn_radar.read_columns(table) | map(attribute='name') | select('in', churn_radar.column_types(logged)) | list %}
    {% set names = read if has_loaded_at else read | reject('equalto', 'loaded_at') | list %}
    {% set events = 'select ' ~ names | join(', ') ~ ' from ' ~ logged ~ ' as events' %}
    {% if not has_loaded_at %}
        {% set events = (
            events ~ ' where ' ~ key ~ ' not in (select ' ~ churn_radar.as_text(key) ~ ' from (' ~ own ~ ') as own where ' ~ key ~ ' is not null)'
        ) %}
    {% endif %}
    {{ return('(' ~ churn_radar.union_by_name(own, events) ~ ')') }}
{% endmacro %}


{#- Union of two queries by column name; missing columns are null. -#}
{% macro union_by_name(first, second) %}
    {% if not churn_radar.is_spark() %}{{ return(first ~ ' union all by name ' ~ second) }}{% endif %}
    {#- columns whose types differ in family are cast to strings, which staging casts to the contract's type -#}
    {% set queries = [first, second] %}
    {% set types = [churn_radar.column_types('(' ~ first ~ ')'), churn_radar.column_types('(' ~ second ~ ')')] %}
    {% set selects = [] %}
    {% for own in types %}
        {% set other = types[1 - loop.index0] %}
        {% set columns = [] %}
        {% for name in types[0].keys() | list + types[1].keys() | list | reject('in', types[0]) | list %}
            {% set quoted = adapter.quote(name) %}
            {% if name not in own %}
                {% do columns.append('cast(null as ' ~ other[name] ~ ') as ' ~ quoted) %}
            {% elif name in other and churn_radar.type_family(own[name]) != churn_radar.type_family(other[name]) %}
                {% do columns.append(churn_radar.as_text(quoted) ~ ' as ' ~ quoted) %}
            {% else %}
                {% do columns.append(quoted) %}
            {% endif %}
        {% endfor %}
        {% do selects.append('select ' ~ columns | join(', ') ~ ' from (' ~ queries[loop.index0] ~ ') as rows_' ~ loop.index) %}
    {% endfor %}
    {{ return(selects | join(' union all ')) }}
{% endmacro %}


{#- Types of a raw table's columns by the contract's names; none if the shop lacks the table. -#}
{% macro raw_column_types(table) %}
    {{ return(churn_radar.column_types(churn_radar.raw_relation(table))) }}
{% endmacro %}


{#- Names of the raw tables that the shop has or the service has accepted events for. -#}
{% macro available_tables() %}
    {% set tables = [] %}
    {% if execute %}
        {% for contract in churn_radar.raw_contracts() if churn_radar.raw_column_types(contract.name) is not none %}
            {% do tables.append(contract.name) %}
        {% endfor %}
    {% endif %}
    {{ return(tables) }}
{% endmacro %}


{#- Column types of a relation as {lower-case name: upper-case type}; none if its file does not exist. -#}
{% macro column_types(relation) %}
    {% if churn_radar.is_spark() %}{{ return(adapter.column_types(relation | string)) }}{% endif %}
    {% if (relation | string).startswith("'") %}
        {% set files = run_query("select count(*) from glob(" ~ relation ~ ")") %}
        {% if files.rows[0][0] == 0 %}{{ return(none) }}{% endif %}
    {% endif %}
    {% set types = {} %}
    {% for row in run_query("describe select * from " ~ relation).rows %}
        {% do types.update({row[0] | lower: row[1] | upper}) %}
    {% endfor %}
    {{ return(types) }}
{% endmacro %}


{#- 'text', 'number' or 'timestamp' for a warehouse's type; other types are returned unchanged. -#}
{% macro type_family(type) %}
    {% if churn_radar.is_text_type(type) %}
        {{ return('text') }}
    {% elif type.startswith(('TIMESTAMP', 'DATE')) %}
        {{ return('timestamp') }}
    {% elif type.startswith(('DECIMAL', 'NUMERIC', 'FLOAT', 'DOUBLE', 'REAL')) or 'INT' in type %}
        {{ return('number') }}
    {% endif %}
    {{ return(type) }}
{% endmacro %}


{#- Whether a warehouse's type is a string type. -#}
{% macro is_text_type(type) %}{{ return(type.startswith(('VARCHAR', 'TEXT', 'CHARACTER', 'STRING'))) }}{% endmacro %}


{#- Columns of the contract, and of churn__customer_attributes, that exist in a raw table. -#}
{% macro raw_columns(table) %}
    {% if not execute %}{{ return([]) }}{% endif %}
    {% set names = [] %}
    {% set attributes = var('churn__customer_attributes') if table == 'customers' else [] %}
    {% set types = churn_radar.raw_column_types(table) or {} %}
    {% for name in churn_radar.staged_columns(table) | map(attribute='name') | list + attributes if name | lower in types %}
        {% do names.append(name | lower) %}
    {% endfor %}
    {{ return(names) }}
{% endmacro %}


{#- Default of a count over a raw table: 0 if the shop has the table, a typed null if not. -#}
{% macro zero_if_present(table) %}
    {%- if not execute or churn_radar.raw_column_types(table) is not none -%} 0
    {%- else -%} cast(null as bigint)
    {%- endif -%}
{% endmacro %}


{#-
    Whether the shop records a column of the contract; true where it lacks the whole table. The events accepted by the
    service do not count, as they cannot say what earlier rows would have had.
-#}
{% macro is_recorded(table, column) %}
    {% set types = churn_radar.column_types(churn_radar.raw_source(table)) if execute else none %}
    {{ return(types is none or column in types or column in (var('churn__' ~ table ~ '_columns', none) or {})) }}
{% endmacro %}


{#- Columns, as 'table.column', whose features are null as the shop does not record them. -#}
{% macro unrecorded_columns() %}
    {% set names = [] %}
    {% for table, column in [('orders', 'coupon_code'), ('events', 'session_id')] if not churn_radar.is_recorded(table, column) %}
        {% do names.append(table ~ '.' ~ column) %}
    {% endfor %}
    {{ return(names) }}
{% endmacro %}


{#-
    Every row of a raw table with the contract's names and types, and `rejection_reason`: why the row is invalid, null
    if it is valid. Columns that the shop lacks are null; a table that it lacks is empty.
-#}
{% macro checked_rows(table) %}
    {% set relation = churn_radar.raw_relation(table) %}
    {% if not execute %}{{ return('select 1') }}{% endif %}
    {% set contract = churn_radar.raw_contract(table) %}
    {% set types = churn_radar.raw_column_types(table) %}
    {% set present = churn_radar.read_columns(table) | map(attribute='name') | select('in', types or {}) | list %}
    {% set columns = churn_radar.staged_columns(table) %}
    {% set names = columns | map(attribute='name') | list %}
    {% set selected = [] %}
    {% for column in columns %}
        {% if column.name in present %}
            {% set value = churn_radar.read_as(adapter.quote(column.name), types[column.name], column.data_type) %}
        {% else %}
            {% set value = churn_radar.read_as('null', '', column.data_type) %}
        {% endif %}
        {% if table == 'orders' and column.name == 'status' %}
            {% set value = 'coalesce(lower(trim(' ~ value ~ ")), 'completed')" %}
        {% elif column.name == 'customer_id' %}
            {% set value = churn_radar.staged_customer_id(value) %}
        {% endif %}
        {% do selected.append(value ~ ' as ' ~ column.name) %}
    {% endfor %}
    {% for attribute in (var('churn__customer_attributes') if table == 'customers' else []) %}
        {% do selected.append(adapter.quote(attribute)) %}
    {% endfor %}
select
    *,
    case
        {%- for column in columns if column.meta.get('required') and column.data_type != 'double' and column.name not in ['review_text', 'event_type'] %}
        when {{ column.name }} is null then '{{ column.name }} is null'
        {%- endfor %}
        {%- if contract.meta.get('event_time') %}
        {%- set event_time = contract.meta.event_time %}
        when {{ event_time }} < timestamp '1990-01-01' then '{{ event_time }} is before 1990'
        when {{ event_time }} > {{ 'coalesce(loaded_at, ' if 'loaded_at' in names else '(' -}}
            timestamp '{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S") }}') + interval '1' day
            then '{{ event_time }} is in the future'
        {%- if 'loaded_at' in names %}
        when loaded_at > timestamp '{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S") }}' + interval '1' day then 'loaded_at is in the future'
        {%- endif %}
        {%- endif %}
        {%- for column in columns if column.data_type == 'double' %}
        when not {{ churn_radar.is_plausible_number(column.name) }} then '{{ column.name }} is not a number below 10^12'
        {%- endfor %}
        {%- if table == 'orders' %}
        when amount is null and status = 'completed' then 'amount of a completed order is null'
        when amount < 0 and status = 'completed' then 'amount of a completed order is negative'
        {%- elif table == 'order_items' %}
        when quantity is null or quantity < 0 then 'quantity is null or negative'
        {%- endif %}
    end as rejection_reason
from (
    select
        {{ selected | join(',\n        ') }}
    {%- if types is none %}
    where false
    {%- else %}
    from {{ relation }} as raw_rows
    where {{ churn_radar.not_erased(table) }}
    {%- endif %}
) as typed
{% endmacro %}


{#-
    Staging rows of a raw table: valid rows, one per key. Where rows have loaded_at, a key has one row per arrival,
    numbered by `version` and valid until `superseded_at`, which is null for the current version. Only rows of repeated
    keys are ranked, as a window function over all rows costs more than everything else in staging.
-#}
{% macro staged_rows(table) %}
    {% set checked = churn_radar.checked_rows(table) %}
    {% set repeated_keys = ref('stg_repeated_keys') %}
    {% if not execute %}{{ return('select 1') }}{% endif %}
    {% set contract = churn_radar.raw_contract(table) %}
    {% set key = contract.meta.primary_key | join(', ') %}
    {% set names = churn_radar.staged_columns(table) | map(attribute='name') | list %}
    {% set has_versions = 'loaded_at' in names %}
    {% set has_loaded_at = has_versions and 'loaded_at' in (churn_radar.raw_column_types(table) or {}) %}
    {% set columns = (names + (var('churn__customer_attributes') if table == 'customers' else [])) | join(',\n    ') %}
    {#- order by every other column, so that the result does not depend on the order of the rows -#}
    {% set newest_first = [] %}
    {% for name in names if name not in contract.meta.primary_key and name != 'loaded_at' %}
        {% do newest_first.append(name ~ ' desc nulls last') %}
    {% endfor %}
{#- subqueries instead of CTEs: a CTE that is read twice is materialised in memory with all its columns #}
{%- set repeated = churn_radar.key_hash(table) ~ ' in (select key_hash from ' ~ repeated_keys ~ " where source_table = '" ~ table ~ "')" %}
select
    {{ columns }}
    {%- if has_versions %},
    cast(1 as bigint) as version,
    cast(null as timestamp) as superseded_at
    {%- endif %}
from (
    {{ checked | indent(4) }}
) as checked
where rejection_reason is null and not {{ repeated }}

union all

select
    {{ columns }}
    {%- if has_loaded_at %},
    row_number() over (partition by {{ key }} order by loaded_at nulls first) as version,
    min(greatest({{ contract.meta.event_time }}, coalesce(loaded_at, {{ contract.meta.event_time }}))) over (
        partition by {{ key }} order by loaded_at nulls first rows between 1 following and unbounded following
    ) as superseded_at
    {%- elif has_versions %},
    cast(1 as bigint) as version,
    cast(null as timestamp) as superseded_at
    {%- endif %}
from (
    select
        *,
        row_number() over (
            partition by {{ key }}{{ ', loaded_at' if has_loaded_at }}
            order by {{ newest_first | join(', ') or contract.meta.primary_key[0] }}
        ) as duplicate_number
    from (
        {{ checked | indent(8) }}
    ) as checked
    where rejection_reason is null and {{ repeated }}
) as ranked
where duplicate_number = 1
{% endmacro %}


{#- 64-bit hash of the primary key of a raw row; never null. -#}
{% macro key_hash(table) %}
    {%- if not execute %}{{ return('0') }}{% endif -%}
    {%- set parts = [] -%}
    {%- for name in churn_radar.raw_contract(table).meta.primary_key -%}
        {%- do parts.append('coalesce(' ~ churn_radar.as_text(name) ~ ", '')") -%}
    {%- endfor -%}
    {{- churn_radar.fast_hash(parts | join(" || chr(31) || ")) -}}
{% endmacro %}
