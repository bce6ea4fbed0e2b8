{%- set score_columns = [
    'churn_probability', 'risk_band', 'risk_percentile', 'horizon_days', 'expected_spend', 'value_at_risk',
    'reason_1', 'reason_2', 'reason_3', 'model_version'
] -%}

-- one value per customer, as the lookup time grows with the number of values
select
    customer_id,
    {{ churn_radar.json_object(dict(zip(score_columns, score_columns))) }} as score,
    feature_snapshot_at,
    scored_at
from {{ ref('churn_scores') }}
where
    as_of_date >= (
        select {{ churn_radar.add_days('max(as_of_date)', '-' ~ var('churn__keep_snapshots_days')) }} from {{ ref('churn_scores') }}
    )
