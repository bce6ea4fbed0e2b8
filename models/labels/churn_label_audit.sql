{{ config(materialized='table' if target.database == 'postgres' else 'view') }}

with

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

observed as (
    select
        as_of_date as newest_date,
        observed_until
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

customers as (
    select
        customer_id,
        min(activity_date) as first_order_date
    from completed_orders
    group by customer_id
),

days as (
    {{ churn_radar.days_from_to('(select min(first_order_date) from customers)', '(select newest_date from observed)') }}
),

customer_days as (
    select
        customers.customer_id,
        days.day as as_of_date,
        {{ churn_radar.add_days('days.day', '-' ~ var('churn__activity_days')) }} as activity_window_starts_on,
        {{ churn_radar.add_days('days.day', var('churn__horizon_days')) }} as window_ends_on,
        observed.observed_until
    from customers
    cross join days
    cross join observed
),

orders_before as (
    select
        customer_days.customer_id,
        customer_days.as_of_date,
        count(*) as orders,
        min(completed_orders.activity_date) as first_order_date,
        max(completed_orders.activity_date) as last_order_date
    from customer_days
    inner join completed_orders
        on
            customer_days.customer_id = completed_orders.customer_id
            and {{ churn_radar.known_at('completed_orders', 'customer_days.as_of_date') }}
    group by customer_days.customer_id, customer_days.as_of_date
),

orders_in_window as (
    select
        customer_days.customer_id,
        customer_days.as_of_date,
        min(completed_orders.activity_date) as next_order_date
    from customer_days
    inner join completed_orders
        on
            customer_days.customer_id = completed_orders.customer_id
            and customer_days.as_of_date <= completed_orders.activity_date
            and customer_days.window_ends_on > completed_orders.activity_date
            and customer_days.observed_until > completed_orders.activity_date
            and {{ churn_radar.known_now('completed_orders') }}
    group by customer_days.customer_id, customer_days.as_of_date
),

statuses as (
    select
        customer_days.*,
        coalesce(orders_before.orders, 0) as orders,
        orders_before.first_order_date,
        orders_before.last_order_date,
        orders_in_window.next_order_date,
        case
            when orders_before.orders is null then 'not_eligible'
            when orders_before.orders < {{ var('churn__min_orders') }} then 'not_eligible'
            when orders_before.last_order_date < customer_days.activity_window_starts_on then 'not_eligible'
            when customer_days.window_ends_on > customer_days.observed_until then 'censored'
            when orders_in_window.next_order_date is null then 'churned'
            else 'retained'
        end as status
    from customer_days
    left join orders_before
        on customer_days.customer_id = orders_before.customer_id and customer_days.as_of_date = orders_before.as_of_date
    left join orders_in_window
        on customer_days.customer_id = orders_in_window.customer_id and customer_days.as_of_date = orders_in_window.as_of_date
)

select
    customer_id,
    as_of_date,
    status,
    case
        when status = 'not_eligible' and last_order_date is null
            then 'no completed order before ' || {{ churn_radar.as_text('as_of_date') }}
        when status = 'not_eligible' and orders < {{ var('churn__min_orders') }}
            then
                'completed orders before ' || {{ churn_radar.as_text('as_of_date') }} || ': ' || {{ churn_radar.as_text('orders') }}
                || ', fewer than {{ var("churn__min_orders") }}'
        when status = 'not_eligible'
            then
                'last order on ' || {{ churn_radar.as_text('last_order_date') }}
                || ', before ' || {{ churn_radar.as_text('activity_window_starts_on') }}
        when status = 'censored'
            then
                'the window ends on ' || {{ churn_radar.as_text('window_ends_on') }}
                || ', after the data (' || {{ churn_radar.as_text('observed_until') }} || ')'
        when status = 'churned'
            then
                'no completed order from ' || {{ churn_radar.as_text('as_of_date') }}
                || ' to before ' || {{ churn_radar.as_text('window_ends_on') }}
        else 'ordered again on ' || {{ churn_radar.as_text('next_order_date') }}
    end as reason,
    cast(orders as bigint) as orders,
    first_order_date,
    last_order_date,
    activity_window_starts_on,
    next_order_date,
    window_ends_on,
    observed_until
from statuses
