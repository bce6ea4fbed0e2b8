with

newest as (
    select as_of_date from {{ ref('int_snapshot_dates') }} where is_newest
)

select
    scores.customer_id,
    scores.as_of_date,
    scores.model_version,
    scores.churn_probability,
    scores.risk_band,
    scores.expected_spend,
    scores.value_at_risk
from {{ ref('latest_scores') }} as scores
inner join newest on scores.as_of_date = newest.as_of_date
