{#- Bounds of what the transformer reads of a customer; older than these are left out. -#}
{% macro most_events() %}{{ return(32) }}{% endmacro %}
{% macro most_texts() %}{{ return(4) }}{% endmacro %}
{% macro sequence_days() %}{{ return(180) }}{% endmacro %}


{#-
    The first rows of a group by some ascending expressions, none of them null, an array per column: the columns of a
    select, from a mapping of names to expressions.
-#}
{% macro first_rows(columns, order_by, most) %}
    {{- return(adapter.dispatch('first_rows', 'churn_radar')(columns, order_by, most)) -}}
{% endmacro %}

{% macro default__first_rows(columns, order_by, most) -%}
    {%- for name, value in columns.items() %}
        (array_agg({{ value }} order by {{ order_by | join(', ') }}))[1:{{ most }}] as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- one list of rows, sorted once: lists that are sorted as they are made need kilobytes per group -#}
{% macro duckdb__first_rows(columns, order_by, most) -%}
    {%- set fields = {} %}
    {%- for value in order_by %}{% do fields.update({value: 'field_' ~ loop.index}) %}{% endfor %}
    {%- for value in columns.values() if value not in fields %}{% do fields.update({value: 'value_' ~ loop.index}) %}{% endfor %}
    {%- set packed = [] %}
    {%- for value, name in fields.items() %}{% do packed.append(name ~ ' := ' ~ value) %}{% endfor %}
    {%- for name, value in columns.items() %}
        [struct_extract(x, '{{ fields[value] }}') for x in list_sort(list(struct_pack({{ packed | join(', ') }})))[1:{{ most }}]] as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- as in DuckDB -#}
{% macro spark__first_rows(columns, order_by, most) -%}
    {%- set fields = [] %}
    {%- for value in order_by %}{% do fields.append("'key_" ~ loop.index ~ "', " ~ value) %}{% endfor %}
    {%- for name, value in columns.items() %}{% do fields.append("'" ~ name ~ "', " ~ value) %}{% endfor %}
    {%- for name in columns %}
        transform(slice(array_sort(collect_list(named_struct({{ fields | join(', ') }}))), 1, {{ most }}), x -> x.{{ name }}) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{#- Columns of a relation as one array of texts name=value; null where the relation has no row, or without columns. -#}
{% macro packed(names, relation) %}
    {{- return(adapter.dispatch('packed', 'churn_radar')(names, relation)) -}}
{% endmacro %}

{% macro default__packed(names, relation) %}
    {%- if not names -%} cast(null as {{ churn_radar.type_strings() }})
    {%- else -%}
    {%- set texts = [] -%}
    {%- for name in names -%}
        {%- do texts.append("'" ~ name ~ "=' || coalesce(cast(" ~ relation ~ '.' ~ adapter.quote(name) ~ " as " ~ churn_radar.type_string() ~ "), '')") -%}
    {%- endfor -%}
    case
        when {{ relation }}.customer_id is not null
            then {{ churn_radar.array_of(texts) }}
    end
    {%- endif -%}
{% endmacro %}
