select
    histories.customer_id,
    histories.as_of_date,
    snapshot_dates.is_newest and histories.is_sampled as is_newest,
    snapshot_dates.is_training and histories.is_sampled as is_training,
    histories.is_sampled,
    histories.first_order_date,
    histories.last_order_date,
    histories.orders,
    histories.order_days
from {{ ref('int_purchase_histories') }} as histories
inner join {{ ref('int_snapshot_dates') }} as snapshot_dates on histories.as_of_date = snapshot_dates.as_of_date
where
    histories.is_snapshot
    and histories.orders >= {{ var('churn__min_orders') }}
