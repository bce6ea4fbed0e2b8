{#- Casts to types as contracts spell them. -#}
{% macro sparkpython__cast(field, type) %}
    cast({{ field }} as {{ api.Column.translate_type(type) }})
{% endmacro %}

{% macro sparkpython__safe_cast(field, type) %}
    {{ return(spark__safe_cast(field, api.Column.translate_type(type))) }}
{% endmacro %}

{#- Quotes are doubled, which does not depend on Spark's setting for backslashes. -#}
{% macro sparkpython__escape_single_quotes(expression) -%}
    {{ expression | replace("\\", "\\\\") | replace("'", "''") }}
{%- endmacro %}
