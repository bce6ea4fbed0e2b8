select
    customer_id,
    as_of_date,
    packed
from {{ ref('packed_features') }}
