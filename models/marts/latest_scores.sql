select
    customer_id,
    as_of_date,
    churn_probability,
    risk_band,
    expected_spend,
    value_at_risk,
    model_version,
    scored_at
from {{ ref('churn_scores') }}
-- a date that was scored again, by another version or for fewer customers, counts as it was scored last
qualify scored_at = max(scored_at) over (partition by as_of_date)
