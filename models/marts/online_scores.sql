{%- set told = [
    'churn_probability', 'risk_band', 'risk_percentile', 'horizon_days', 'expected_spend', 'value_at_risk',
    'reason_1', 'reason_2', 'reason_3', 'model_version'
] -%}

-- one value per customer: a store answers as fast as it has few of them
select
    customer_id,
    {{ churn_radar.json_object(dict(zip(told, told))) }} as score,
    feature_snapshot_at,
    scored_at
from {{ ref('churn_scores') }}
where
    as_of_date >= (
        select {{ churn_radar.add_days('max(as_of_date)', -var('churn__keep_snapshots_days')) }} from {{ ref('churn_scores') }}
    )
