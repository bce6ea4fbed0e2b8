{% macro max_events() %}{{ return(32) }}{% endmacro %}
{% macro max_texts() %}{{ return(4) }}{% endmacro %}
{% macro sequence_days() %}{{ return(180) }}{% endmacro %}


{% macro first_rows(columns, order_by, limit) -%}
    {%- if churn_radar.is_spark() %}{{ return(churn_radar.spark_first_rows(columns, order_by, limit)) }}{% endif %}
    {#- one list of structs, sorted once: an ordered aggregate per column needs kilobytes of memory per group -#}
    {%- set fields = {} %}
    {%- for value in order_by %}{% do fields.update({value: 'field_' ~ loop.index}) %}{% endfor %}
    {%- for value in columns.values() if value not in fields %}{% do fields.update({value: 'value_' ~ loop.index}) %}{% endfor %}
    {%- set packed = [] %}
    {%- for value, name in fields.items() %}{% do packed.append(name ~ ' := ' ~ value) %}{% endfor %}
    {%- for name, value in columns.items() %}
        [struct_extract(x, '{{ fields[value] }}') for x in list_sort(list(struct_pack({{ packed | join(', ') }})))[1:{{ limit }}]] as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{#- `first_rows` in Spark. -#}
{% macro spark_first_rows(columns, order_by, limit) -%}
    {%- set fields = [] %}
    {%- for value in order_by %}{% do fields.append("'key_" ~ loop.index ~ "', " ~ value) %}{% endfor %}
    {%- for name, value in columns.items() %}{% do fields.append("'" ~ name ~ "', " ~ value) %}{% endfor %}
    {%- for name in columns %}
        transform(slice(array_sort(collect_list(named_struct({{ fields | join(', ') }}))), 1, {{ limit }}), x -> x.{{ name }}) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{% macro name_value_array(names, relation) %}
    {%- set texts = [] -%}
    {%- for name in names -%}
        {%- do texts.append("'" ~ name ~ "=' || coalesce(" ~ churn_radar.as_text(relation ~ '.' ~ adapter.quote(name)) ~ ", '')") -%}
    {%- endfor -%}
    {%- if texts -%} case when {{ relation }}.customer_id is not null then {{ churn_radar.array_of(texts) }} end
    {%- else -%} cast(null as {{ 'array<string>' if churn_radar.is_spark() else 'varchar[]' }})
    {%- endif -%}
{% endmacro %}
