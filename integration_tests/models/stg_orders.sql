select
    nr as receipt,
    client,
    make_timestamp(ts * 1000000) as placed_at,
    cents / 100.0 as paid,
    state,
    make_timestamp(imported * 1000000) as imported_at
from {{ source('raw', 'orders') }}
