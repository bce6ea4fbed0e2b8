with

versions as (
    select
        model_version,
        max(run_id) as run_id
    from {{ ref('churn_model') }}
    group by model_version
)

select
    predictions.customer_id,
    cast(predictions.as_of_date as date) as as_of_date,
    predictions.model_version,
    {{ churn_radar.as_text('versions.run_id') }} as run_id,
    predictions.features_hash,
    {{ churn_radar.as_text('predictions.manifest_hash') }} as manifest_hash,
    predictions.level_shift,
    cast(predictions.feature_snapshot_at as timestamp) as feature_snapshot_at,
    cast(predictions.scored_at as timestamp) as scored_at
from {{ ref('churn_predictions') }} as predictions
left join versions on predictions.model_version = versions.model_version
