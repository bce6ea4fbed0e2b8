{#- Most customers that the purchase forecast is fitted on; more make it slower, not better. -#}
{% macro forecast_sample_customers() %}{{ return(8000) }}{% endmacro %}
