{#- JSON functions. Spark has no JSON type: a struct stands in for it until it is cast to text. -#}

{% macro json_object(expressions) %}{{ churn_radar.json_as_text(churn_radar.json_of(expressions)) }}{% endmacro %}


{#- JSON as text. -#}
{% macro json_as_text(json) -%}
    {%- if churn_radar.is_spark() -%} to_json({{ json }}, map('ignoreNullFields', 'false'))
    {%- else -%} cast({{ json }} as varchar)
    {%- endif -%}
{%- endmacro %}


{% macro as_json(expression) %}{{ expression if churn_radar.is_spark() else 'to_json(' ~ expression ~ ')' }}{% endmacro %}


{% macro row_as_json(alias) -%}
    {{ churn_radar.json_as_text('struct(' ~ alias ~ '.*)' if churn_radar.is_spark() else 'to_json(' ~ alias ~ ')') }}
{%- endmacro %}


{% macro json_of(expressions) -%}
    {{ 'named_struct' if churn_radar.is_spark() else 'json_object' }}(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', {{ expression }}{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}


{% macro json_lists(expressions, order_by) -%}
    {%- set fields, lists = [], {} -%}
    {%- for name, expression in expressions.items() -%}
        {%- do fields.append(name ~ ' := ' ~ expression) -%}
    {%- endfor -%}
    {%- for name, expression in expressions.items() -%}
        {%- if churn_radar.is_spark() -%}
            {%- do lists.update({name: churn_radar.ordered_array(expression, order_by)}) -%}
        {%- else -%}
            {#- one list of structs, so that DuckDB sorts once instead of once per column -#}
            {%- set rows = churn_radar.ordered_array('struct_pack(' ~ fields | join(', ') ~ ')', order_by) -%}
            {%- do lists.update({name: "[struct_extract(x, '" ~ name ~ "') for x in " ~ rows ~ ']'}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ churn_radar.json_of(lists) }}
{%- endmacro %}


{% macro json_array(expressions) %}{{ churn_radar.as_json(churn_radar.array_of(expressions)) }}{% endmacro %}


{% macro json_texts(texts) %}{{ churn_radar.json_array(["'" ~ texts | join("', '") ~ "'"]) }}{% endmacro %}
