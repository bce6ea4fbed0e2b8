{%- set named_types = "'" ~ churn_radar.event_types() | join("', '") ~ "'" -%}
{%- set since = churn_radar.rebuilt_from('arrived_date') -%}

with

orders as (
    select * from {{ ref('stg_orders') }}
),

order_items as (
    select * from {{ ref('stg_order_items') }}
),

events as (
    select * from {{ ref('stg_events') }}
    {%- if since %}
    where occurred_at >= cast('{{ since }}' as timestamp)
    {%- endif %}
),

order_quantities as (
    select
        order_id,
        sum({{ churn_radar.fixed_point('quantity') }}) as items
    from order_items
    group by order_id
),

dated_orders as (
    select
        orders.*,
        order_quantities.items,
        cast(orders.ordered_at as date) as activity_date,
        greatest(
            cast(orders.ordered_at as date), coalesce(cast(orders.loaded_at as date), cast(orders.ordered_at as date))
        ) as arrived_date,
        cast(orders.superseded_at as date) as superseded_date,
        extract(hour from orders.ordered_at) as hour_of_day
    from orders
    left join order_quantities on orders.order_id = order_quantities.order_id
),

{{ churn_radar.changed_days('dated_orders', since) }},

order_days as (
    select
        customer_id,
        activity_date,
        arrived_date,
        superseded_date,
        count(case when status = 'completed' then 1 end) as orders,
        count(case when status = 'cancelled' then 1 end) as cancelled_orders,
        count(case when status = 'returned' then 1 end) as returned_orders,
        count(case when status = 'completed' then coupon_code end) as coupon_orders,
        sum(case when status = 'completed' then {{ churn_radar.fixed_point('amount') }} else 0 end) as amount,
        max(case when status = 'completed' then amount end) as largest_order_amount,
        sum(case when status = 'completed' then {{ churn_radar.fixed_point('discount_amount') }} end) as discount_amount,
        sum(case when status = 'completed' then items end) as items,
        count(case when status = 'completed' and hour_of_day < 6 then 1 end) as night_orders,
        count(case when status = 'completed' and hour_of_day >= 6 and hour_of_day < 12 then 1 end) as morning_orders,
        count(case when status = 'completed' and hour_of_day >= 12 and hour_of_day < 18 then 1 end) as afternoon_orders,
        count(case when status = 'completed' and hour_of_day >= 18 then 1 end) as evening_orders
    from changed_dated_orders
    group by customer_id, activity_date, arrived_date, superseded_date
),

-- grouped by session first: count(distinct session_id) by day is slower than summing over sessions
session_days as (
    select
        customer_id,
        cast(occurred_at as date) as activity_date,
        session_id,
        count(*) as events,
        {%- for event_type in churn_radar.event_types() %}
        count(case when event_type = '{{ event_type }}' then 1 end) as {{ event_type }}_events,
        {%- endfor %}
        count(case when event_type not in ({{ named_types }}) then 1 end) as other_events,
        max(occurred_at) as last_event_at
    from events
    group by customer_id, cast(occurred_at as date), session_id
),

event_days as (
    select
        customer_id,
        activity_date,
        activity_date as arrived_date,
        cast(null as date) as superseded_date,
        count(session_id) as sessions,
        cast(sum(events) as bigint) as events,
        {%- for event_type in churn_radar.event_types() + ['other'] %}
        cast(sum({{ event_type }}_events) as bigint) as {{ event_type }}_events,
        {%- endfor %}
        max(last_event_at) as last_event_at
    from session_days
    group by customer_id, activity_date
)

select
    coalesce(order_days.customer_id, event_days.customer_id) as customer_id,
    coalesce(order_days.activity_date, event_days.activity_date) as activity_date,
    coalesce(order_days.arrived_date, event_days.arrived_date) as arrived_date,
    order_days.superseded_date,
    coalesce(order_days.orders, 0) as orders,
    coalesce(order_days.cancelled_orders, 0) as cancelled_orders,
    coalesce(order_days.returned_orders, 0) as returned_orders,
    coalesce(order_days.coupon_orders, 0) as coupon_orders,
    {{ churn_radar.fixed_point('coalesce(order_days.amount, 0)') }} as amount,
    order_days.largest_order_amount,
    {{ churn_radar.fixed_point('order_days.discount_amount') }} as discount_amount,
    {{ churn_radar.fixed_point('order_days.items') }} as items,
    coalesce(order_days.night_orders, 0) as night_orders,
    coalesce(order_days.morning_orders, 0) as morning_orders,
    coalesce(order_days.afternoon_orders, 0) as afternoon_orders,
    coalesce(order_days.evening_orders, 0) as evening_orders,
    coalesce(event_days.events, 0) as events,
    coalesce(event_days.sessions, 0) as sessions,
    {%- for event_type in churn_radar.event_types() %}
    coalesce(event_days.{{ event_type }}_events, 0) as {{ event_type }}_events,
    {%- endfor %}
    coalesce(event_days.other_events, 0) as other_events,
    event_days.last_event_at
from order_days
full outer join event_days
    on
        order_days.customer_id = event_days.customer_id
        and order_days.activity_date = event_days.activity_date
        and order_days.arrived_date = event_days.arrived_date
        and coalesce(order_days.superseded_date, date '9999-12-31') = coalesce(event_days.superseded_date, date '9999-12-31')
