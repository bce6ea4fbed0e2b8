{% macro as_percent(share) -%}
    {{ churn_radar.as_text('cast(100 * ' ~ share ~ ' as decimal(5, 1))') }} || ' %'
{%- endmacro %}


{% macro as_decimal(number) -%}
    {{ churn_radar.as_text('cast(' ~ number ~ ' as decimal(28, 2))') }}
{%- endmacro %}
