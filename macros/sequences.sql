{% macro max_events() %}{{ return(32) }}{% endmacro %}
{% macro max_texts() %}{{ return(4) }}{% endmacro %}
{% macro sequence_days() %}{{ return(180) }}{% endmacro %}


{% macro first_rows(columns, order_by, limit) -%}
    {#- one list of structs, sorted once: an ordered aggregate per column needs kilobytes of memory per group -#}
    {%- set fields = {} %}
    {%- for value in order_by %}{% do fields.update({value: 'field_' ~ loop.index}) %}{% endfor %}
    {%- for value in columns.values() if value not in fields %}{% do fields.update({value: 'value_' ~ loop.index}) %}{% endfor %}
    {%- set packed = [] %}
    {%- for value, name in fields.items() %}{% do packed.append("'" ~ name ~ "', " ~ value if churn_radar.is_spark() else name ~ ' := ' ~ value) %}{% endfor %}
    {%- for name, value in columns.items() %}
        {%- if churn_radar.is_spark() %}
        transform(slice(array_sort(collect_list(named_struct({{ packed | join(', ') }}))), 1, {{ limit }}), x -> x.{{ fields[value] }})
        {%- else %}
        [struct_extract(x, '{{ fields[value] }}') for x in list_sort(list(struct_pack({{ packed | join(', ') }})))[1:{{ limit }}]]
        {%- endif %} as {{ name }}{{ ',' if not loop.last }}
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
