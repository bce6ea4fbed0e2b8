with

valid_rows as (
    {{- churn_radar.staged_rows('orders') | indent(4) }}
)

select
    order_id,
    customer_id,
    ordered_at,
    amount,
    status,
    discount_amount,
    coupon_code,
    status_changed_at,
    loaded_at,
    version,
    superseded_at
from valid_rows
