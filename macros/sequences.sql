{#- Bounds of what the transformer reads of a customer; older than these are left out. -#}
{% macro most_events() %}{{ return(32) }}{% endmacro %}
{% macro most_texts() %}{{ return(4) }}{% endmacro %}
{% macro sequence_days() %}{{ return(180) }}{% endmacro %}


{#- The values of a group as an array, in an order. -#}
{% macro list_of(value, order_by) %}
    {{- return(adapter.dispatch('list_of', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__list_of(value, order_by) %}array_agg({{ value }} order by {{ order_by }}){% endmacro %}
