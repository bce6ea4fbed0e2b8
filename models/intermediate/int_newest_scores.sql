with

newest as (
    select as_of_date from {{ ref('int_snapshot_dates') }} where is_newest
),

ranked as (
    select
        scores.*,
        max(scores.scored_at) over (partition by scores.model_version) as version_scored_at
    from {{ ref('churn_scores') }} as scores
    inner join newest on scores.as_of_date = newest.as_of_date
),

last_versions as (
    select
        *,
        dense_rank() over (order by version_scored_at desc, model_version desc) as version_rank
    from ranked
)

select
    customer_id,
    as_of_date,
    model_version,
    churn_probability,
    risk_band,
    risk_percentile,
    expected_spend,
    value_at_risk
from last_versions
where version_rank = 1
