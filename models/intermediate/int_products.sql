with

sales as (
    select
        order_items.product_id,
        coalesce(order_items.product_name, order_items.category) as product_name,
        greatest(orders.ordered_at, coalesce(orders.loaded_at, orders.ordered_at)) as known_at,
        orders.order_id
    from {{ ref('stg_order_items') }} as order_items
    inner join {{ ref('stg_orders') }} as orders on order_items.order_id = orders.order_id
    where coalesce(order_items.product_name, order_items.category) is not null
)

select
    product_id,
    {{ churn_radar.first_by('product_name', ['known_at', 'order_id', 'product_name']) }} as product_name,
    min(known_at) as known_at
from sales
group by product_id
