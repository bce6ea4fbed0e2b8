{#- A share as text for alert messages: 0.5249 becomes '52.5 %'. -#}
{% macro as_percent(share) -%}
    {{ churn_radar.as_text('cast(100 * ' ~ share ~ ' as decimal(5, 1))') }} || ' %'
{%- endmacro %}


{#- An amount or index as text with two decimals, for alert messages. -#}
{% macro as_decimal(number) -%}
    {{ churn_radar.as_text('cast(' ~ number ~ ' as decimal(28, 2))') }}
{%- endmacro %}
