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


{#-
    Whether a boolean column is true in more than the share `at_most` of the champion's newest rows that `among` holds
    for: what an earlier version did, or this one at earlier dates, is over.
-#}
{% test seldom_of_champion(model, column_name, at_most=0, among='true') %}
    with

    rows_of_champion as (
        select judged.*
        from {{ model }} as judged
        inner join {{ ref('churn_model') }} as versions on judged.model_version = versions.model_version
        where versions.is_champion
    )

    select
        as_of_date,
        model_version,
        count(*) as judged_rows,
        count(case when {{ column_name }} then 1 end) as found
    from rows_of_champion
    where as_of_date = (select max(as_of_date) from rows_of_champion) and {{ among }}
    group by as_of_date, model_version
    having count(case when {{ column_name }} then 1 end) > {{ at_most }} * count(*)
{% endtest %}
