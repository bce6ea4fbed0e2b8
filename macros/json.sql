{#- JSON functions. Spark has no JSON type: a struct stands in for it until it is cast to text. -#}

{#- A JSON object as text, from a mapping of names to SQL expressions; numbers keep full precision. -#}
{% macro json_object(expressions) %}{{ churn_radar.json_as_text(churn_radar.json_of(expressions)) }}{% endmacro %}


{#- JSON as text. -#}
{% macro json_as_text(json) -%}
    {%- if churn_radar.is_spark() -%} to_json({{ json }}, map('ignoreNullFields', 'false'))
    {%- else -%} cast({{ json }} as varchar)
    {%- endif -%}
{%- endmacro %}


{#- A value as JSON. -#}
{% macro as_json(expression) %}{{ expression if churn_radar.is_spark() else 'to_json(' ~ expression ~ ')' }}{% endmacro %}


{#- A whole row, by the alias of its relation, as the text of a JSON object. -#}
{% macro row_as_json(alias) -%}
    {{ churn_radar.json_as_text('struct(' ~ alias ~ '.*)' if churn_radar.is_spark() else 'to_json(' ~ alias ~ ')') }}
{%- endmacro %}


{#- A JSON object, from a mapping of names to SQL expressions. -#}
{% macro json_of(expressions) -%}
    {{ 'named_struct' if churn_radar.is_spark() else 'json_object' }}(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', {{ expression }}{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}


{#- A JSON object with one array per name: the group's values of each SQL expression, ordered by `order_by`. -#}
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


{#- A JSON array of SQL expressions. -#}
{% macro json_array(expressions) %}{{ churn_radar.as_json(churn_radar.array_of(expressions)) }}{% endmacro %}


{#- A JSON array of string literals. -#}
{% macro json_texts(texts) %}{{ churn_radar.json_array(["'" ~ texts | join("', '") ~ "'"]) }}{% endmacro %}


{#- The rows of a group as a JSON array of objects with these columns. -#}
{% macro json_rows(columns) %}{{ churn_radar.as_json('array_agg(' ~ churn_radar.json_of(dict(zip(columns, columns))) ~ ')') }}{% endmacro %}
