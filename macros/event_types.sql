{#- Browsing event types of the data contract that are counted by name. -#}
{% macro event_types() %}
    {{ return(['view', 'search', 'cart_add', 'cart_remove', 'wishlist', 'login']) }}
{% endmacro %}
