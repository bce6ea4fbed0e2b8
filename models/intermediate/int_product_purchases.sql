with

newest as (
    select as_of_date
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

purchases as (
    select distinct
        daily_products.customer_id,
        daily_products.product_id,
        daily_products.activity_date as bought_on
    from {{ ref('int_customer_daily_products') }} as daily_products
    inner join newest
        on
            {{ churn_radar.known_at('daily_products', 'newest.as_of_date') }}
            and {{ churn_radar.add_days('newest.as_of_date', -var('churn__history_days')) }} <= daily_products.activity_date
),

returned_orders as (
    select
        order_id,
        customer_id,
        ordered_at,
        greatest(ordered_at, coalesce(loaded_at, ordered_at)) as known_at,
        superseded_at
    from {{ ref('stg_orders') }}
    where status = 'returned'
),

returns as (
    select distinct
        returned_orders.customer_id,
        order_items.product_id,
        cast(returned_orders.ordered_at as date) as bought_on
    from returned_orders
    inner join {{ ref('stg_order_items') }} as order_items on returned_orders.order_id = order_items.order_id
    inner join newest on {{ churn_radar.known_at_midnight('returned_orders', 'ordered_at', 'newest.as_of_date') }}
)

select
    *,
    false as is_returned
from purchases

union all

select
    *,
    true as is_returned
from returns
