{#-
    Rows whose key is null or that of another row too. On a column it is the key; on a model its `columns` together are.
    One test, so that a table is read once for what unique and not_null read it for twice and more.
-#}
{% test primary_key(model, columns=none, column_name=none) %}
    {%- set key = columns or [column_name] %}
    select {{ key | join(', ') }}
    from {{ model }}
    group by {{ key | join(', ') }}
    having count(*) > 1 or {{ key | join(' is null or ') }} is null
{% endtest %}


{#- Rows that share the values of all `columns`, of which some may be null, with another row. -#}
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
    Keys of a raw table whose rows disagree and do not say which came later: rows that are alike are one row, rows of
    different loaded_at are versions of one.
-#}
{% test no_conflicting_rows(model, table) %}
    {%- if not execute %}{{ return('select 1') }}{% endif %}
    {%- set names = churn_radar.staged_columns(table) | map(attribute='name') | list %}
    {%- set key = churn_radar.raw_contract(table).meta.primary_key + (['loaded_at'] if 'loaded_at' in names else []) %}
    select {{ key | join(', ') }}
    from (
        select distinct {{ names | join(', ') }}
        from (
            {{ churn_radar.checked_rows(table) }}
        ) as checked
        where rejection_reason is null
    ) as different_rows
    group by {{ key | join(', ') }}
    having count(*) > 1
{% endtest %}


{#-
    Whether a boolean column is true in more than the share `at_most` of the champion's newest rows that `among` holds
    for: what an earlier version did, or this one at earlier dates, is over.
-#}
{% test seldom_of_champion(model, column_name, at_most=0, among='true') %}
    with

    rows_of_champion as (
        select *
        from {{ model }}
        where model_version in (select model_version from {{ ref('churn_model') }} where is_champion)
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
