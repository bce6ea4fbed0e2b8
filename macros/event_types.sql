{% macro event_types() %}
    {{ return(['view', 'search', 'cart_add', 'cart_remove', 'wishlist', 'login']) }}
{% endmacro %}
