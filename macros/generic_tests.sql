{#- Rows that share the values of all `columns` with another row. -#}
{% test unique_combination(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}


{#- Values below `minimum` or above `maximum`; null passes. -#}
{% test in_range(model, column_name, minimum=none, maximum=none) %}
    select {{ column_name }}
    from {{ model }}
    where
        false
        {%- if minimum is not none %}
        or {{ column_name }} < {{ minimum }}
        {%- endif %}
        {%- if maximum is not none %}
        or {{ column_name }} > {{ maximum }}
        {%- endif %}
{% endtest %}


{#- More than one different value in `column`. -#}
{% test one_value(model, column) %}
    select count(distinct {{ column }}) as different_values
    from {{ model }}
    having count(distinct {{ column }}) > 1
{% endtest %}
