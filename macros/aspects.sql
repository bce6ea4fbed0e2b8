{#- What customers praise or complain about; the seed aspect_descriptions describes each, and review_embeddings scores it. -#}
{% macro aspects() %}
    {{ return(['delivery', 'quality', 'price', 'service', 'returns']) }}
{% endmacro %}
