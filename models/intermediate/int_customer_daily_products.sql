{%- set since = churn_radar.rebuilt_from('arrived_date') -%}

with

orders as (
    select
        *,
        cast(ordered_at as date) as activity_date,
        greatest(cast(ordered_at as date), coalesce(cast(loaded_at as date), cast(ordered_at as date))) as arrived_date,
        cast(superseded_at as date) as superseded_date
    from {{ ref('stg_orders') }}
    where status = 'completed'
),

order_items as (
    select * from {{ ref('stg_order_items') }}
),

{{ churn_radar.changed_days('orders', since) }}

select
    orders.customer_id,
    orders.activity_date,
    orders.arrived_date,
    orders.superseded_date,
    order_items.product_id,
    max(order_items.category) as category,
    {{ churn_radar.fixed_point('sum(' ~ churn_radar.fixed_point('order_items.quantity') ~ ')') }} as quantity,
    {{ churn_radar.fixed_point('sum(' ~ churn_radar.fixed_point('order_items.quantity * order_items.unit_price') ~ ')') }} as amount
from changed_orders as orders
inner join order_items on orders.order_id = order_items.order_id
group by 1, 2, 3, 4, 5
