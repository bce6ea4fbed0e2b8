select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(coalesce(text_pools.texts_60d, 0) as bigint) as texts_60d,
    text_pools.text_embedding,
    {{ churn_radar.as_text('text_pools.encoder_revision') }} as encoder_revision
from ({{ churn_radar.snapshots_to_build() }}) as snapshots
left join {{ ref('text_pools') }} as text_pools
    on snapshots.customer_id = text_pools.customer_id and snapshots.as_of_date = text_pools.as_of_date
