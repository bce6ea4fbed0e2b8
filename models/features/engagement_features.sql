{%- set windows = [7, 30, 90] -%}
{%- set event_types = churn_radar.event_types() + ['other'] -%}
{%- set zero = churn_radar.zero_if_present('events') -%}
{%- set has_sessions = churn_radar.is_recorded('events', 'session_id') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

last_visits as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        max(daily_events.activity_date) as activity_date
    from snapshots
    inner join {{ ref('int_customer_daily_events') }} as daily_events
        on
            snapshots.customer_id = daily_events.customer_id
            and snapshots.as_of_date > daily_events.activity_date
            and {{ churn_radar.add_days('snapshots.as_of_date', '-' ~ var('churn__history_days')) }} <= daily_events.activity_date
    group by snapshots.customer_id, snapshots.as_of_date
),

known_days as (
    select
        snapshots.as_of_date,
        daily_events.*,
        {{ churn_radar.days_between('daily_events.activity_date', 'snapshots.as_of_date') }} as days_ago
    from snapshots
    inner join {{ ref('int_customer_daily_events') }} as daily_events
        on
            snapshots.customer_id = daily_events.customer_id
            and snapshots.as_of_date > daily_events.activity_date
            and {{ churn_radar.add_days('snapshots.as_of_date', -(windows | max)) }} <= daily_events.activity_date
),

engagement as (
    select
        customer_id,
        as_of_date,
        {%- for days in windows %}
        {%- for event_type in event_types %}
        sum(case when days_ago <= {{ days }} then {{ event_type }}_events else 0 end) as {{ event_type }}_events_{{ days }}d,
        {%- endfor %}
        sum(case when days_ago <= {{ days }} then sessions else 0 end) as sessions_{{ days }}d,
        count(case when days_ago <= {{ days }} then 1 end) as visit_days_{{ days }}d,
        {%- endfor %}
        sum(case when days_ago > 30 and days_ago <= 60 then view_events else 0 end) as view_events_previous_30d,
        count(case when days_ago > 30 and days_ago <= 60 then 1 end) as visit_days_previous_30d
    from known_days
    group by customer_id, as_of_date
),

order_days as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        {{ churn_radar.days_between('orders.activity_date', 'snapshots.as_of_date') }} as days_ago,
        count(*) as orders
    from snapshots
    inner join {{ ref('int_customer_orders') }} as orders
        on
            snapshots.customer_id = orders.customer_id
            and {{ churn_radar.known_at('orders', 'snapshots.as_of_date') }}
            and {{ churn_radar.add_days('snapshots.as_of_date', -90) }} <= orders.activity_date
    where orders.status = 'completed'
    group by snapshots.customer_id, snapshots.as_of_date, orders.activity_date
),

recent_orders as (
    select
        customer_id,
        as_of_date,
        sum(orders) as orders_90d
    from order_days
    group by customer_id, as_of_date
),

abandoned_carts as (
    select
        known_days.customer_id,
        known_days.as_of_date,
        count(case when known_days.days_ago <= 30 then 1 end) as abandoned_carts_30d,
        count(*) as abandoned_carts_90d
    from known_days
    left join order_days
        on
            known_days.customer_id = order_days.customer_id
            and known_days.as_of_date = order_days.as_of_date
            and known_days.days_ago = order_days.days_ago
    where known_days.cart_add_events > 0 and order_days.orders is null
    group by known_days.customer_id, known_days.as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast({{ churn_radar.days_between('last_visits.activity_date', 'snapshots.as_of_date') }} as bigint) as days_since_last_visit,
    {%- for days in windows %}
    {%- for event_type in event_types %}
    cast(coalesce(engagement.{{ event_type }}_events_{{ days }}d, {{ zero }}) as bigint) as {{ event_type }}_events_{{ days }}d,
    {%- endfor %}
    cast({{ 'coalesce(engagement.sessions_' ~ days ~ 'd, ' ~ zero ~ ')' if has_sessions else 'null' }} as bigint) as sessions_{{ days }}d,
    cast(coalesce(engagement.visit_days_{{ days }}d, {{ zero }}) as bigint) as visit_days_{{ days }}d,
    {%- endfor %}
    cast(coalesce(abandoned_carts.abandoned_carts_30d, {{ zero }}) as bigint) as abandoned_carts_30d,
    cast(coalesce(abandoned_carts.abandoned_carts_90d, {{ zero }}) as bigint) as abandoned_carts_90d,
    cast(coalesce(recent_orders.orders_90d, 0) as double) / nullif(engagement.cart_add_events_90d, 0) as orders_per_cart_add_90d,
    cast(coalesce(recent_orders.orders_90d, 0) as double) / nullif(engagement.view_events_90d, 0) as orders_per_view_90d,
    cast(coalesce(engagement.view_events_30d, {{ zero }}) + 1 as double)
    / (coalesce(engagement.view_events_previous_30d, 0) + 1) as view_trend_30d,
    cast(coalesce(engagement.visit_days_30d, {{ zero }}) + 1 as double)
    / (coalesce(engagement.visit_days_previous_30d, 0) + 1) as visit_trend_30d
from snapshots
left join last_visits
    on snapshots.customer_id = last_visits.customer_id and snapshots.as_of_date = last_visits.as_of_date
left join engagement
    on snapshots.customer_id = engagement.customer_id and snapshots.as_of_date = engagement.as_of_date
left join abandoned_carts
    on snapshots.customer_id = abandoned_carts.customer_id and snapshots.as_of_date = abandoned_carts.as_of_date
left join recent_orders
    on snapshots.customer_id = recent_orders.customer_id and snapshots.as_of_date = recent_orders.as_of_date
