select
    {{ churn_radar.as_text('customer_id') }} as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(rank as integer) as rank,
    {{ churn_radar.as_text('product_id') }} as product_id,
    {{ churn_radar.as_text('product_name') }} as product_name,
    cast(score as double) as score,
    {{ churn_radar.as_text('source') }} as source,
    {{ churn_radar.as_text('reason') }} as reason
from {{ ref('recommendation_candidates') }}
