{%- set since = churn_radar.rebuilt_from('activity_date') -%}
{%- set late = churn_radar.late_event_days() -%}
{%- if late -%}
    {%- do exceptions.warn(
        'events: on ' ~ late | length ~ ' days, ' ~ late[0][0] ~ ' to ' ~ late[-1][0] ~ ', events arrived, disappeared or got another customer'
        ~ ' after churn__lookback_days (' ~ var('churn__lookback_days') ~ '), ' ~ '%+d' | format(late | map(attribute=1) | sum)
        ~ ' in all; snapshots from this build on count them'
    ) -%}
{%- endif -%}

with

events as (
    select
        *,
        cast(occurred_at as date) as activity_date
    from {{ ref('stg_events') }}
    {%- if since %}
    where {{ churn_radar.is_rebuilt('cast(occurred_at as date)', since, late | map(attribute=0)) }}
    {%- endif %}
)

select
    customer_id,
    activity_date,
    count(*) as events,
    count(distinct session_id) as sessions,
    {%- for event_type in churn_radar.event_types() %}
    count(case when event_type = '{{ event_type }}' then 1 end) as {{ event_type }}_events,
    {%- endfor %}
    count(*)
    {%- for event_type in churn_radar.event_types() %}
    - count(case when event_type = '{{ event_type }}' then 1 end)
    {%- endfor %} as other_events,
    max(occurred_at) as last_event_at
from events
group by customer_id, activity_date
