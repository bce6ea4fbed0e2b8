with

orders as (
    select * from {{ ref('stg_orders') }} where status = 'completed'
),

order_items as (
    select * from {{ ref('stg_order_items') }}
)

select
    orders.customer_id,
    cast(orders.ordered_at as date) as activity_date,
    greatest(
        cast(orders.ordered_at as date), coalesce(cast(orders.loaded_at as date), cast(orders.ordered_at as date))
    ) as arrived_date,
    order_items.product_id,
    max(order_items.category) as category,
    {{ churn_radar.exact('sum(' ~ churn_radar.exact('order_items.quantity') ~ ')') }} as quantity,
    {{ churn_radar.exact('sum(' ~ churn_radar.exact('order_items.quantity * order_items.unit_price') ~ ')') }} as amount
from orders
inner join order_items on orders.order_id = order_items.order_id
group by 1, 2, 3, 4
