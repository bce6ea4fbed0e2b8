with

newest as (
    select as_of_date
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

known_orders as (
    select
        orders.*,
        {{ churn_radar.add_days('newest.as_of_date', '-' ~ var('churn__history_days')) }} <= orders.activity_date as is_recent
    from {{ ref('int_customer_orders') }} as orders
    inner join newest on {{ churn_radar.known_at('orders', 'newest.as_of_date') }}
    where orders.status in ('completed', 'returned')
)

-- returns of any age, so that a returned product is never recommended again
select distinct
    known_orders.customer_id,
    order_items.product_id,
    known_orders.activity_date as bought_on,
    known_orders.status = 'returned' as is_returned
from known_orders
inner join {{ ref('stg_order_items') }} as order_items on known_orders.order_id = order_items.order_id
where known_orders.status = 'returned' or known_orders.is_recent
