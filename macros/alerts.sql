{#- How alerts say a share: 0.5249 is 52.5 %. -#}
{% macro as_percent(share) -%}
    cast(cast(100 * {{ share }} as decimal(5, 1)) as {{ churn_radar.type_string() }}) || ' %'
{%- endmacro %}


{#- How alerts say money and indices: to the hundredth. -#}
{% macro as_decimal(number) -%}
    cast(cast({{ number }} as decimal(18, 2)) as {{ churn_radar.type_string() }})
{%- endmacro %}
