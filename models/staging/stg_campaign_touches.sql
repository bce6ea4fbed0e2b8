with

valid_rows as (
    {{- churn_radar.staged_rows('campaign_touches') | indent(4) }}
)

select
    touch_id,
    customer_id,
    campaign_id,
    action,
    touched_at,
    cost,
    propensity,
    redeemed_at
from valid_rows
