with

valid_rows as (
    {{- churn_radar.staged_rows('order_items') | indent(4) }}
)

select
    order_id,
    product_id,
    quantity,
    unit_price,
    product_name,
    category
from valid_rows
