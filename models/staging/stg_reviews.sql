with

valid_rows as (
    {{- churn_radar.staged_rows('reviews') | indent(4) }}
)

select
    review_id,
    customer_id,
    review_text,
    reviewed_at,
    product_id,
    rating,
    loaded_at,
    version,
    superseded_at
from valid_rows
