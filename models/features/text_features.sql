select
    {{ churn_radar.as_text('customer_id') }} as customer_id,
    as_of_date,
    cast(texts_60d as bigint) as texts_60d,
    text_embedding,
    {{ churn_radar.as_text('encoder_revision') }} as encoder_revision
from {{ ref('text_pools') }}
