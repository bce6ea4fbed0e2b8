{% macro forecast_sample_customers() %}{{ return(8000) }}{% endmacro %}
