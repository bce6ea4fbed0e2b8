{%- set windows = [7, 30, 90] -%}
{%- set event_types = churn_radar.event_types() + ['other'] -%}
{%- set zero = churn_radar.zero_if_present('events') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

daily_activity as (
    select * from {{ ref('int_customer_daily_activity') }}
),

known_days as (
    select
        snapshots.as_of_date,
        daily_activity.*,
        {{ churn_radar.days_between('daily_activity.activity_date', 'snapshots.as_of_date') }} as days_ago
    from snapshots
    inner join daily_activity
        on
            snapshots.customer_id = daily_activity.customer_id
            and {{ churn_radar.known_at('daily_activity', 'snapshots.as_of_date') }}
            and {{ churn_radar.add_days('snapshots.as_of_date', -var('churn__history_days')) }} <= daily_activity.activity_date
),

-- events arrive on their own day, so all events of a day are in one row
engagement as (
    select
        customer_id,
        as_of_date,
        {%- for days in windows %}
        {%- for event_type in event_types %}
        sum(case when days_ago <= {{ days }} then {{ event_type }}_events else 0 end) as {{ event_type }}_events_{{ days }}d,
        {%- endfor %}
        sum(case when days_ago <= {{ days }} then sessions else 0 end) as sessions_{{ days }}d,
        count(case when days_ago <= {{ days }} and events > 0 then 1 end) as visit_days_{{ days }}d,
        {%- endfor %}
        sum(case when days_ago > 30 and days_ago <= 60 then view_events else 0 end) as view_events_previous_30d,
        count(case when days_ago > 30 and days_ago <= 60 and events > 0 then 1 end) as visit_days_previous_30d,
        sum(case when days_ago <= 90 then orders else 0 end) as orders_90d,
        min(case when events > 0 then days_ago end) as days_since_last_visit
    from known_days
    group by customer_id, as_of_date
),

-- aggregated by day first, as an order of the day may have arrived in a later row than the cart_add event
abandoned_cart_days as (
    select
        customer_id,
        as_of_date,
        days_ago
    from known_days
    where days_ago <= 90 and (cart_add_events > 0 or orders > 0)
    group by customer_id, as_of_date, days_ago
    having sum(cart_add_events) > 0 and sum(orders) = 0
),

abandoned_carts as (
    select
        customer_id,
        as_of_date,
        count(case when days_ago <= 30 then 1 end) as abandoned_carts_30d,
        count(*) as abandoned_carts_90d
    from abandoned_cart_days
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(engagement.days_since_last_visit as bigint) as days_since_last_visit,
    {%- for days in windows %}
    {%- for event_type in event_types %}
    cast(engagement.{{ event_type }}_events_{{ days }}d + {{ zero }} as bigint) as {{ event_type }}_events_{{ days }}d,
    {%- endfor %}
    cast(engagement.sessions_{{ days }}d + {{ zero }} as bigint) as sessions_{{ days }}d,
    cast(engagement.visit_days_{{ days }}d + {{ zero }} as bigint) as visit_days_{{ days }}d,
    {%- endfor %}
    cast(coalesce(abandoned_carts.abandoned_carts_30d, {{ zero }}) as bigint) as abandoned_carts_30d,
    cast(coalesce(abandoned_carts.abandoned_carts_90d, {{ zero }}) as bigint) as abandoned_carts_90d,
    cast(engagement.orders_90d as double) / nullif(engagement.cart_add_events_90d, 0) as orders_per_cart_add_90d,
    cast(engagement.orders_90d as double) / nullif(engagement.view_events_90d, 0) as orders_per_view_90d,
    cast(engagement.view_events_30d + 1 + {{ zero }} as double) / (engagement.view_events_previous_30d + 1) as view_trend_30d,
    cast(engagement.visit_days_30d + 1 + {{ zero }} as double) / (engagement.visit_days_previous_30d + 1) as visit_trend_30d
from snapshots
left join engagement
    on snapshots.customer_id = engagement.customer_id and snapshots.as_of_date = engagement.as_of_date
left join abandoned_carts
    on snapshots.customer_id = abandoned_carts.customer_id and snapshots.as_of_date = abandoned_carts.as_of_date
