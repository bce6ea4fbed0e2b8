select
    {{ churn_radar.as_text('customer_id') }} as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(horizon_days as integer) as horizon_days,
    {{ churn_radar.as_text('kind') }} as kind,
    cast(churn_probability as double) as churn_probability,
    cast(probability_low as double) as probability_low,
    cast(probability_high as double) as probability_high,
    cast(similar_newcomers as bigint) as similar_newcomers,
    cast(similar_churned as bigint) as similar_churned,
    {{ churn_radar.as_text('reason') }} as reason,
    cast(feature_snapshot_at as timestamp) as feature_snapshot_at,
    cast(scored_at as timestamp) as scored_at
from {{ ref('newcomer_predictions') }}
