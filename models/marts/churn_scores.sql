with

predictions as (
    select * from {{ ref('churn_predictions') }}
)

select
    customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(horizon_days as integer) as horizon_days,
    churn_probability,
    cast(
        case
            when churn_probability >= {{ var('churn__band_critical') }} then 'critical'
            when churn_probability >= {{ var('churn__band_high') }} then 'high'
            when churn_probability >= {{ var('churn__band_medium') }} then 'medium'
            else 'low'
        end as {{ churn_radar.type_string() }}
    ) as risk_band,
    cast(
        percent_rank() over (partition by as_of_date, model_version order by churn_probability) as double
    ) as risk_percentile,
    cast(expected_spend as double) as expected_spend,
    churn_probability * expected_spend as value_at_risk,
    {{ churn_radar.as_text('reason_1') }} as reason_1,
    {{ churn_radar.as_text('reason_2') }} as reason_2,
    {{ churn_radar.as_text('reason_3') }} as reason_3,
    cast(transformer_probability as double) as transformer_probability,
    cast(boosting_probability as double) as boosting_probability,
    cast(logistic_probability as double) as logistic_probability,
    model_version,
    cast(feature_snapshot_at as timestamp) as feature_snapshot_at,
    cast(scored_at as timestamp) as scored_at
from predictions
