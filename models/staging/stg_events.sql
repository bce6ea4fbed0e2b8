with

valid_rows as (
    {{- churn_radar.staged_rows('events') | indent(4) }}
)

select
    event_id,
    customer_id,
    event_type,
    occurred_at,
    session_id,
    product_id
from valid_rows
