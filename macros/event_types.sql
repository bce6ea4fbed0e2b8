{#- Browsing event types with counts of their own; all other types are counted as 'other'. -#}
{% macro event_types() %}
    {{ return(['view', 'search', 'cart_add', 'cart_remove', 'wishlist', 'login']) }}
{% endmacro %}
