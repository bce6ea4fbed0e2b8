{% macro aspects() %}
    {{ return(['delivery', 'quality', 'price', 'service', 'returns']) }}
{% endmacro %}
