{#- Maximum number of customers the purchase forecast is fitted on; more make it slower without improving it. -#}
{% macro forecast_sample_customers() %}{{ return(8000) }}{% endmacro %}
