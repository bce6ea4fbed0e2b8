{#- Topics of praise and complaint; the seed aspect_descriptions describes them and review_embeddings scores them. -#}
{% macro aspects() %}
    {{ return(['delivery', 'quality', 'price', 'service', 'returns']) }}
{% endmacro %}
