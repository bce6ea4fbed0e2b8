with

scores as (
    select
        *,
        max(scored_at) over (partition by as_of_date) as last_scored_at
    from {{ ref('churn_scores') }}
)

select
    customer_id,
    as_of_date,
    churn_probability,
    risk_band,
    expected_spend,
    value_at_risk,
    model_version,
    scored_at
from scores
-- only the last scoring run of a date, which may be by another version or for fewer customers
where scored_at = last_scored_at
