{% test primary_key(model, columns=none, column_name=none) %}
    {%- set key = columns or [column_name] %}
    select {{ key | join(', ') }}
    from {{ model }}
    group by {{ key | join(', ') }}
    having count(*) > 1 or {{ key | join(' is null or ') }} is null
{% endtest %}


{% test unique_combination(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}


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


{% test one_value(model, column) %}
    select count(distinct {{ column }}) as different_values
    from {{ model }}
    having count(distinct {{ column }}) > 1
{% endtest %}


{% test no_conflicting_rows(model, table) %}
    {%- set repeated_keys = ref('stg_repeated_keys') %}
    {%- if not execute %}{{ return('select 1') }}{% endif %}
    {%- set names = churn_radar.staged_columns(table) | map(attribute='name') | list %}
    {%- set key = [churn_radar.raw_contract(table).meta.primary_key] + (['loaded_at'] if 'loaded_at' in names else []) %}
    select {{ key | join(', ') }}
    from (
        select distinct {{ (names + churn_radar.quoted_attributes(table)) | join(', ') }}
        from (
            {{ churn_radar.checked_rows(table) }}
        ) as checked
        where
            rejection_reason is null
            and {{ churn_radar.key_hash(table) }} in (select key_hash from {{ repeated_keys }} where source_table = '{{ table }}')
    ) as different_rows
    group by {{ key | join(', ') }}
    having count(*) > 1
{% endtest %}


{% test joins_at_least(model, column_name, table, share) %}
    {%- set others = ref('stg_' ~ table) %}
    {%- if not execute or load_relation(model) is none or load_relation(others) is none %}{{ return('select 1 as not_built limit 0') }}{% endif %}
    select
        count(*) as tested_rows,
        count(known.{{ column_name }}) as joined_rows,
        min(case when known.{{ column_name }} is null then tested.{{ column_name }} end) as example
    from {{ model }} as tested
    left join (select distinct {{ column_name }} from {{ others }}) as known
        on tested.{{ column_name }} = known.{{ column_name }}
    where tested.{{ column_name }} is not null and exists (select 1 from {{ others }})
    having count(known.{{ column_name }}) < {{ share }} * count(*)
{% endtest %}


{% test champion_share_at_most(model, column_name, maximum=0, among='true') %}
    with

    rows_of_champion as (
        select *
        from {{ model }}
        where model_version in (select model_version from {{ ref('churn_model') }} where is_champion)
    )

    select
        as_of_date,
        model_version,
        count(*) as tested_rows,
        count(case when {{ column_name }} then 1 end) as true_rows
    from rows_of_champion
    where as_of_date = (select max(as_of_date) from rows_of_champion) and {{ among }}
    group by as_of_date, model_version
    having count(case when {{ column_name }} then 1 end) > {{ maximum }} * count(*)
{% endtest %}
