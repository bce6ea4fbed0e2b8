{#- JSON functions, which differ between warehouses. -#}

{#- A JSON object as text, from a mapping of names to SQL expressions; numbers keep full precision. -#}
{% macro json_object(expressions) -%}
    {{ churn_radar.json_as_text(churn_radar.json_of(expressions)) }}
{%- endmacro %}


{#- JSON as text. Spark has no JSON type: a struct stands in for it until this cast. -#}
{% macro json_as_text(json) %}
    {{- return(adapter.dispatch('json_as_text', 'churn_radar')(json)) -}}
{% endmacro %}

{% macro default__json_as_text(json) %}cast({{ json }} as varchar){% endmacro %}

{% macro spark__json_as_text(json) %}to_json({{ json }}, map('ignoreNullFields', 'false')){% endmacro %}


{#- A value as JSON. -#}
{% macro as_json(expression) %}
    {{- return(adapter.dispatch('as_json', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__as_json(expression) %}to_json({{ expression }}){% endmacro %}

{% macro spark__as_json(expression) %}{{ expression }}{% endmacro %}


{#- A whole row, by the alias of its relation, as the text of a JSON object. -#}
{% macro row_as_json(alias) %}
    {{- return(adapter.dispatch('row_as_json', 'churn_radar')(alias)) -}}
{% endmacro %}

{% macro default__row_as_json(alias) %}cast(to_json({{ alias }}) as varchar){% endmacro %}

{% macro spark__row_as_json(alias) %}{{ churn_radar.json_as_text('struct(' ~ alias ~ '.*)') }}{% endmacro %}


{#- A JSON object, from a mapping of names to SQL expressions. -#}
{% macro json_of(expressions) %}
    {{- return(adapter.dispatch('json_of', 'churn_radar')(expressions)) -}}
{% endmacro %}

{% macro duckdb__json_of(expressions) -%}
    json_object(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', {{ expression }}{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}

{% macro spark__json_of(expressions) -%}
    named_struct(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', {{ expression }}{{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}


{#- A JSON object with one array per name: the group's values of each SQL expression, ordered by `order_by`. -#}
{% macro json_lists(expressions, order_by) %}
    {{- return(adapter.dispatch('json_lists', 'churn_radar')(expressions, order_by)) -}}
{% endmacro %}

{% macro default__json_lists(expressions, order_by) -%}
    {%- set lists = {} -%}
    {%- for name, expression in expressions.items() -%}
        {%- do lists.update({name: churn_radar.ordered_array(expression, order_by)}) -%}
    {%- endfor -%}
    {{ churn_radar.json_of(lists) }}
{%- endmacro %}

{#- one list of structs, so that DuckDB sorts once instead of once per column -#}
{% macro duckdb__json_lists(expressions, order_by) -%}
    {%- set fields, lists = [], {} -%}
    {%- for name, expression in expressions.items() -%}
        {%- do fields.append(name ~ ' := ' ~ expression) -%}
    {%- endfor -%}
    {%- set rows = churn_radar.ordered_array('struct_pack(' ~ fields | join(', ') ~ ')', order_by) -%}
    {%- for name in expressions -%}
        {%- do lists.update({name: "[struct_extract(x, '" ~ name ~ "') for x in " ~ rows ~ ']'}) -%}
    {%- endfor -%}
    {{ churn_radar.json_of(lists) }}
{%- endmacro %}


{#- A JSON array of SQL expressions. -#}
{% macro json_array(expressions) -%}
    {{ churn_radar.as_json(churn_radar.array_of(expressions)) }}
{%- endmacro %}


{#- A JSON array of string literals. -#}
{% macro json_texts(texts) -%}
    {{ churn_radar.as_json(churn_radar.array_of(["'" ~ texts | join("', '") ~ "'"])) }}
{%- endmacro %}


{#- The rows of a group as a JSON array of objects with these columns. -#}
{% macro json_rows(columns) %}
    {{- return(adapter.dispatch('json_rows', 'churn_radar')(columns)) -}}
{% endmacro %}

{% macro duckdb__json_rows(columns) -%}
    json_group_array({{ churn_radar.json_of(dict(zip(columns, columns))) }})
{%- endmacro %}

{% macro spark__json_rows(columns) -%}
    collect_list({{ churn_radar.json_of(dict(zip(columns, columns))) }})
{%- endmacro %}
