{#- Reads raw tables by the data contract in models/staging/raw.yml. -#}

{#- The source nodes of all raw tables in dbt's graph, with columns and meta. -#}
{% macro raw_contracts() %}
    {{ return(graph.sources.values() | selectattr('package_name', 'equalto', 'churn_radar') | selectattr('source_name', 'equalto', 'churn_raw') | list) }}
{% endmacro %}


{% macro raw_tables() %}
    {{ return(['orders', 'customers', 'order_items', 'events', 'reviews', 'support_tickets', 'campaign_touches']) }}
{% endmacro %}


{#- The source node of one raw table. -#}
{% macro raw_contract(table) %}
    {% for node in churn_radar.raw_contracts() if node.name == table %}
        {{ return(node) }}
    {% endfor %}
    {% do exceptions.raise_compiler_error("no raw table is named '" ~ table ~ "'; models/staging/raw.yml lists them") %}
{% endmacro %}


{#-
    Relation of a raw table: churn__<table>_source, which is ref('model'), source('name', 'table') or any relation, else
    the Parquet file. A ref or source is a dependency, for the lineage and the order of models, when it is parsed.
-#}
{% macro raw_source(table) %}
    {% set named = var('churn__' ~ table ~ '_source', none) %}
    {% if not execute %}
        {% set kind, names = churn_radar.reference(named) %}
        {{ return(ref(*names) if kind == 'ref' else source(*names) if kind == 'source' else source('churn_raw', table)) }}
    {% endif %}
    {% if not named and churn_radar.is_spark() %}
        {{ return(adapter.file_relation(churn_radar.raw_contract(table).meta.external_location.replace('{name}', table))) }}
    {% elif not named %}
        {#- dbt-duckdb's sources are files; render() leaves out the limit of --empty, which raw_relation sets -#}
        {{ return(churn_radar.postgres_table('raw.' ~ table) or "'" ~ source('churn_raw', table).render()[1:-1] | replace("'", "''") ~ "'") }}
    {% endif %}
    {% set node = churn_radar.named_node(named) %}
    {{ return(node.relation_name if node else churn_radar.postgres_table(named) or named) }}
{% endmacro %}


{#- ('ref', [package, model]) or ('source', [name, table]) for a text that is such a call; the package may be left out. -#}
{% macro reference(named) %}
    {% set name = "\\s*['\"](\\w+)['\"]\\s*" %}
    {% set call = modules.re.fullmatch('(ref|source)\\(' ~ name ~ '(?:,' ~ name ~ ')?\\)', named | string) %}
    {% if not call %}{{ return((none, [])) }}{% endif %}
    {{ return((call.group(1), [call.group(2), call.group(3)] if call.group(3) else [project_name, call.group(2)])) }}
{% endmacro %}


{#- The model or source in dbt's graph that churn__<table>_source names by ref(), source() or as 'source.table'; else none. -#}
{% macro named_node(named) %}
    {% set kind, names = churn_radar.reference(named) %}
    {% for node in graph.nodes.values() if kind == 'ref' and names == [node.package_name, node.name] and node.version == node.latest_version %}
        {{ return(node) }}
    {% endfor %}
    {% for node in graph.sources.values() if node.source_name ~ '.' ~ node.name in (named, names | join('.')) %}
        {{ return(node) }}
    {% endfor %}
    {{ return(none) }}
{% endmacro %}


{#- The relation of PostgreSQL that 'schema.table' names; none where it names another, or dbt builds elsewhere. -#}
{% macro postgres_table(name) %}
    {% if not churn_radar.is_postgres() or not modules.re.fullmatch('\\w+[.]\\w+', name) %}{{ return(none) }}{% endif %}
    {% set schema, table = name.split('.') %}
    {{ return(adapter.get_relation(target.database, schema, table)) }}
{% endmacro %}


{#- What churn__<table>_columns names, by columns of the contract. -#}
{% macro column_mapping(table) %}
    {% set mapping = var('churn__' ~ table ~ '_columns', none) %}
    {{ return(mapping if mapping is mapping else {}) }}
{% endmacro %}


{% macro raw_relation(table) %}
    {% set relation = churn_radar.raw_source(table) %}
    {% set mapping = churn_radar.column_mapping(table) %}
    {% set types = churn_radar.column_types(relation) if execute and (mapping or flags.EMPTY) else none %}
    {% if types is none %}{{ return(relation) }}{% endif %}
    {% set selected = [] %}
    {% for name, expression in mapping.items() if expression is not none %}
        {#- quoted, as a column's name may be an SQL keyword or have blanks; check_raw_tables refuses one that is not there -#}
        {% set is_missing = expression | lower not in types and modules.re.fullmatch('[A-Za-z_][A-Za-z_0-9]*', expression | string) %}
        {% set read = adapter.quote(expression) if expression | lower in types else 'null' if is_missing else expression %}
        {% do selected.append(read ~ ' as ' ~ adapter.quote(name)) %}
    {% endfor %}
    {% set contract = churn_radar.read_columns(table) | map(attribute='name') | list %}
    {% for name in contract + churn_radar.attributes_of(table) if name not in mapping and name | lower in types %}
        {% do selected.append(adapter.quote(name)) %}
    {% endfor %}
    {{ return('(select ' ~ selected | join(', ') ~ ' from ' ~ relation ~ ' as raw_rows' ~ (' limit 0)' if flags.EMPTY else ')')) }}
{% endmacro %}


{% macro raw_parts(table) %}
    {% set parts = [] %}
    {% for relation in [churn_radar.raw_relation(table)] + ([] if flags.EMPTY else [churn_radar.logged_events(table)]) if execute %}
        {% set types = churn_radar.column_types(relation) %}
        {% if types is not none %}
            {#- where the shop's rows have no time of arrival, events have none, and of each key only the newest counts -#}
            {% if parts and 'loaded_at' not in parts[0].types and types.pop('loaded_at', none) %}
                {% set numbered = 'select *, row_number() over (partition by ' ~ (churn_radar.raw_contract(table).columns | first) ~ ' order by loaded_at desc) as newest_first from ' ~ relation %}
                {% set relation = '(select * from (' ~ numbered ~ ' as all_rows) as numbered_rows where newest_first = 1)' %}
            {% endif %}
            {% do parts.append({'relation': relation, 'types': types, 'is_own': loop.first}) %}
        {% endif %}
    {% endfor %}
    {{ return(parts) }}
{% endmacro %}


{#- Types of a raw table's columns by the contract's names, of the shop's rows first; none if there is no such table. -#}
{% macro raw_column_types(table) %}
    {% set types = {} %}
    {% for part in churn_radar.raw_parts(table) | reverse %}
        {% do types.update(part.types) %}
    {% endfor %}
    {{ return(types or none) }}
{% endmacro %}


{#- Column types of a relation as {lower-case name: upper-case type}; none if there is no such file or table. -#}
{% macro column_types(relation) %}
    {% if churn_radar.is_spark() %}{{ return(adapter.column_types(relation | string)) }}{% endif %}
    {% if (relation | string).startswith("'") %}
        {% set files = run_query("select count(*) from glob(" ~ relation ~ ")") %}
        {% if files.rows[0][0] == 0 %}{{ return(none) }}{% endif %}
    {% elif modules.re.fullmatch('[\\w."]+', relation | string) %}
        {% set names = (relation | string | lower | replace('"', '')).split('.') %}
        {% set tables = run_query(
            "select count(*) from information_schema.tables where lower(table_name) = '" ~ names[-1] ~ "'"
            ~ (" and '" ~ names[-2] ~ "' in (lower(table_schema), lower(table_catalog))" if names | length > 1 else '')
        ) %}
        {% if tables.rows[0][0] == 0 %}{{ return(none) }}{% endif %}
    {% endif %}
    {% set types = {} %}
    {% for row in run_query("describe select * from " ~ relation).rows %}
        {% do types.update({row[0] | lower: row[1] | upper}) %}
    {% endfor %}
    {{ return(types) }}
{% endmacro %}


{% macro raw_columns(table) %}
    {% set types = (churn_radar.column_types(churn_radar.raw_relation(table)) if execute) or {} %}
    {% set names = (churn_radar.read_columns(table) | map(attribute='name') | list + churn_radar.attributes_of(table)) if types else [] %}
    {{ return(names | map('lower') | select('in', types) | list) }}
{% endmacro %}


{% macro zero_if_present(table) %}
    {%- if not execute or churn_radar.raw_parts(table) -%} 0
    {%- else -%} cast(null as bigint)
    {%- endif -%}
{% endmacro %}


{% macro newest_time(table) %}
    select max({{ churn_radar.raw_contract(table).meta.event_time or 'cast(null as timestamp)' }}) as newest
    from ({{ churn_radar.checked_rows(table) | indent(4) }}) as checked
    where rejection_reason is null
{% endmacro %}


{% macro is_recorded(table, column) %}
    {% set columns = churn_radar.raw_columns(table) %}
    {{ return(not columns or column in columns) }}
{% endmacro %}


{% macro checked_rows(table, numbers=none, logged_only=false) %}
    {%- set parts = churn_radar.raw_parts(table) %}
    {%- if not execute %}{{ return('select 1') }}{% endif %}
    {%- set contract = churn_radar.raw_contract(table) %}
    {%- set columns = churn_radar.staged_columns(table) %}
    {%- set attributes = churn_radar.quoted_attributes(table) %}
    {%- set now, numbers = churn_radar.now_utc(), churn_radar.numeric_ids() if numbers is none else numbers %}
    {#- Money given back is an order of its own, as shops write it, once or more often, under the id of the order that it
        belongs to. Rows of one order, amount and time are one refund. #}
    {%- set is_refund = "status = 'refund' or (status = 'completed' and amount < 0)" %}
    {%- set refunds = {
        'order_id': "case when " ~ is_refund ~ " then order_id || coalesce(' refund of ' || " ~ churn_radar.as_text('abs(amount)') ~ " || ' at ' || " ~ churn_radar.as_text('ordered_at') ~ ", ' refund') else order_id end",
        'amount': 'case when ' ~ is_refund ~ ' then -abs(amount) else amount end',
        'status': 'case when ' ~ is_refund ~ " then 'refund' else status end",
    } if table == 'orders' else {} %}
select
    {%- for column in columns %}
    {{ refunds[column.name] ~ ' as ' ~ column.name if column.name in refunds else column.name }},
    {%- endfor %}
    {%- for attribute in attributes %}
    {{ attribute }},
    {%- endfor %}
    case
        when unreadable is not null then unreadable
        {%- for column in columns if column.meta.get('required') and not column.meta.get('default') and column.data_type != 'double' and column.meta.get('pii') != 'words' %}
        when {{ column.name }} is null then '{{ column.name }} is null'
        {%- endfor %}
        {%- for column in columns if column.data_type == 'timestamp' %}
        {%- if column.name == contract.meta.get('event_time') %}
        when {{ column.name }} < timestamp '1990-01-01' then '{{ column.name }} is before 1990'
        {%- endif %}
        {%- if column.name in [contract.meta.get('event_time'), 'loaded_at', 'status_changed_at'] %}
        when {{ column.name }} > {{ now }} + interval '1' day then '{{ column.name }} is in the future'
        {%- else %}
        when {{ column.name }} < timestamp '1900-01-01' or {{ column.name }} >= timestamp '2200-01-01'
            then '{{ column.name }} is not between 1900 and 2200'
        {%- endif %}
        {%- endfor %}
        {%- for column in columns if column.data_type == 'double' %}
        when not (abs({{ column.name }}) < 1e12) then '{{ column.name }} is not a number below 10^12'
        {%- endfor %}
        {%- for reason, condition in contract.meta.get('rejected_if', {}).items() %}
        when {{ condition }} then '{{ reason }}'
        {%- endfor %}
    end as rejection_reason
from (
    {%- for part in (parts | rejectattr('is_own') | list if logged_only else parts) or [{'types': {}}] %}
    {{- churn_radar.read_rows(table, part, parts[0], attributes, numbers) }}
    {%- if not loop.last %}

    union all
{% endif %}
    {%- endfor %}
) as typed
{%- endmacro %}


{#-
    Typed rows of one part of a raw table, without erased customers, and `unreadable`: why a row cannot be used before its
    values are looked at; null if it can.
-#}
{% macro read_rows(table, part, own, attributes, numbers) %}
    {%- set values, problems = {}, [] %}
    {%- set read = churn_radar.read_columns(table) | map(attribute='name') | select('in', part.types) | list %}
    {%- for column in churn_radar.staged_columns(table) %}
        {%- set quoted, type, meta = adapter.quote(column.name), part.types.get(column.name, ''), column.meta %}
        {%- set value = churn_radar.read_column(column, quoted, type, numbers) if column.name in read else churn_radar.null_of(column.data_type) %}
        {%- if meta.get('default') %}
            {%- set value = 'coalesce(' ~ value ~ ", '" ~ meta.default ~ "')" %}
        {%- endif %}
        {%- if meta.get('id') and churn_radar.is_fractional(type) and column.name in read %}
            {%- do problems.append('when ' ~ churn_radar.is_no_id(quoted, type) ~ ' and not isnan(' ~ quoted ~ ") then '" ~ column.name
                ~ ' is not a whole number below 2^' ~ churn_radar.id_bits(type) ~ "'") %}
        {%- endif %}
        {%- do values.update({column.name: value}) %}
    {%- endfor %}
    {#- events are rows of the key in the first column -#}
    {%- set key = values.keys() | first %}
    {%- set taken = churn_radar.keys_of_others(table, numbers) if part.relation and not part.is_own %}
    {%- if taken %}
        {%- do problems.append("when taken.taken_key is not null then '" ~ key ~ " is that of another customer in the table of the shop'") %}
    {%- endif %}
    {%- if taken and table == 'orders' and 'amount' in own.types %}
        {%- set largest = churn_radar.read_column(churn_radar.raw_contract(table).columns.amount, adapter.quote('amount'), own.types.amount) %}
        {%- do problems.append('when ' ~ values.amount ~ ' > 100 * (select max(own_amount) from (select ' ~ largest ~ ' as own_amount from ' ~ own.relation
            ~ " as raw_rows) as own_amounts where own_amount < 1e12) then 'amount is more than 100 times the largest in the table of the shop'") %}
    {%- endif %}
    select
        {%- for name, value in values.items() %}
        {{ churn_radar.pseudonym(value) if name == 'customer_id' and var('churn__pseudonymise') else value }} as {{ name }},
        {%- endfor %}
        {%- for attribute in attributes %}
        {{ attribute }},
        {%- endfor %}
        {%- if problems %}
        case
            {{ problems | join('\n            ') }}
        end as unreadable
        {%- else %}
        {{ churn_radar.null_of('varchar') }} as unreadable
        {%- endif %}
    {%- if not part.relation %}
    where false
    {%- else %}
    from {{ part.relation }} as raw_rows
    {%- if taken %}
    left join ({{ taken }}) as taken on {{ values[key] }} = taken.taken_key
    {%- endif %}
    where {{ churn_radar.not_erased(table, values.get('customer_id')) }}
    {%- if not part.is_own and own.is_own and 'loaded_at' not in own.types %}
        {#- the shop's own rows of a key come first #}
        and ({{ 'taken.taken_key is not null or ' if taken }}{{ values[key] }} not in (
            select row_key from ({{ churn_radar.keys_of(table, own, numbers) }}) as own_keys where row_key is not null
        ))
    {%- endif %}
    {%- endif %}
{%- endmacro %}


{#- Keys in the first column of one part of a raw table, and their customers where the table has any. -#}
{% macro keys_of(table, part, numbers) %}
    {%- set columns = churn_radar.raw_contract(table).columns %}
    {%- for name in [columns | first] + ['customer_id'] if name in columns %}
    {{- 'select ' if loop.first else ', ' }}{{ churn_radar.read_column(columns[name], adapter.quote(name), part.types.get(name, ''), numbers) }} as {{ 'row_key' if loop.first else 'row_customer' }}
    {%- endfor %} from {{ part.relation }} as raw_rows
{%- endmacro %}


{#-
    Keys of rows that the service accepted which the shop's own table has, for other customers alone; lines are their
    order's. The event log has one customer of a key. None where there is no such table.
-#}
{% macro keys_of_others(table, numbers) %}
    {%- set table = 'orders' if table == 'order_items' else table %}
    {%- set parts = churn_radar.raw_parts(table) %}
    {%- set own, logged = parts | selectattr('is_own') | first, parts | rejectattr('is_own') | first %}
    {%- if not own or not logged %}{{ return(none) }}{% endif %}
    select own.row_key as taken_key
    from ({{ churn_radar.keys_of(table, own, numbers) }}) as own
    inner join ({{ churn_radar.keys_of(table, logged, numbers) }}) as logged on own.row_key = logged.row_key
    where own.row_customer is not null
    group by own.row_key
    having max(case when own.row_customer = logged.row_customer then 1 else 0 end) = 0
{%- endmacro %}


{% macro staged_rows(table) %}
    {%- set checked = churn_radar.checked_rows(table) %}
    {%- set repeated_keys = ref('stg_repeated_keys') %}
    {%- if not execute %}{{ return('select 1') }}{% endif %}
    {%- set meta = churn_radar.raw_contract(table).meta %}
    {%- set key = meta.get('primary_key') %}
    {%- set names = churn_radar.staged_columns(table) | map(attribute='name') | list %}
    {%- set has_versions = 'loaded_at' in names %}
    {%- set has_loaded_at = has_versions and 'loaded_at' in (churn_radar.raw_column_types(table) or {}) %}
    {%- set columns = names + churn_radar.quoted_attributes(table) %}
    {%- set content = columns | reject('in', [key, 'loaded_at']) | list %}
{#- subqueries instead of CTEs: a CTE that is read twice is materialised in memory with all its columns #}
{%- set repeated = churn_radar.key_hash(table) ~ ' in (select key_hash from ' ~ repeated_keys ~ " where source_table = '" ~ table ~ "')" %}
select
    {{ columns | join(',\n    ') }}
    {%- if has_versions %},
    cast(1 as bigint) as version,
    cast(null as timestamp) as superseded_at
    {%- endif %}
from (
    {{- checked | indent(4) }}
) as checked
where rejection_reason is null
{%- if key %} and not {{ repeated }}

union all

select
    {{ columns | join(',\n    ') }}
    {%- if has_loaded_at %},
    row_number() over (partition by {{ key }} order by loaded_at nulls first) as version,
    min(greatest({{ meta.event_time }}, coalesce(loaded_at, {{ meta.event_time }}))) over (
        partition by {{ key }} order by loaded_at nulls first rows between 1 following and unbounded following
    ) as superseded_at
from (
    select
        *,
        lag(content) over (partition by {{ key }} order by loaded_at nulls first) as content_before
    {%- elif has_versions %},
    cast(1 as bigint) as version,
    cast(null as timestamp) as superseded_at
    {%- endif %}
from (
    select
        *,
        {%- if has_loaded_at %}
        {{ churn_radar.row_of(content) }} as content,
        {%- endif %}
        -- by value, so that the result does not depend on the order of the rows
        row_number() over (
            partition by {{ key }}{{ ', loaded_at' if has_loaded_at }}
            order by {{ content | join(' desc nulls last, ') }} desc nulls last
        ) as duplicate_number
    from (
        {{- checked | indent(8) }}
    ) as checked
    where rejection_reason is null and {{ repeated }}
) as ranked
where duplicate_number = 1
{%- if has_loaded_at %}
) as arrivals
-- a row that says what the row before said, as when a table is loaded anew, is no version
where content_before is null or content_before <> content
{%- endif %}
{%- endif %}
{%- endmacro %}


{% macro key_hash(table) %}{{ churn_radar.fast_hash(churn_radar.raw_contract(table).meta.primary_key) if execute else '0' }}{% endmacro %}
