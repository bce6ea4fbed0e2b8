{%- set double = churn_radar.type_double() -%}

select
    cast(customer_id as {{ churn_radar.type_string() }}) as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(horizon_days as integer) as horizon_days,
    cast(kind as {{ churn_radar.type_string() }}) as kind,
    cast(churn_probability as {{ double }}) as churn_probability,
    cast(probability_low as {{ double }}) as probability_low,
    cast(probability_high as {{ double }}) as probability_high,
    cast(similar_newcomers as bigint) as similar_newcomers,
    cast(similar_churned as bigint) as similar_churned,
    cast(reason as {{ churn_radar.type_string() }}) as reason,
    cast(feature_snapshot_at as timestamp) as feature_snapshot_at,
    cast(scored_at as timestamp) as scored_at
from {{ ref('newcomer_predictions') }}
