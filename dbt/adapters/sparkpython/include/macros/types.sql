{#- Casts may name types as contracts do. -#}
{% macro sparkpython__cast(field, type) %}
    cast({{ field }} as {{ api.Column.translate_type(type) }})
{% endmacro %}

{% macro sparkpython__safe_cast(field, type) %}
    {{ return(spark__safe_cast(field, api.Column.translate_type(type))) }}
{% endmacro %}

{#- Two quotes are one, whatever the settings of backslashes. -#}
{% macro sparkpython__escape_single_quotes(expression) -%}
    {{ expression | replace("\\", "\\\\") | replace("'", "''") }}
{%- endmacro %}
