with

bounded as (
    select
        {{ churn_radar.as_text('customer_id') }} as customer_id,
        cast(as_of_date as date) as as_of_date,
        no_order_probability,
        -- clipped, as the log-odds of 0 and 1 are infinite
        least(greatest(no_order_probability, 1e-6), 1 - 1e-6) as bounded_probability,
        alive_logit,
        expected_orders
    from {{ ref('purchase_forecasts') }}
)

select
    customer_id,
    as_of_date,
    cast(no_order_probability as double) as no_order_probability,
    cast(1 / (1 + exp(-alive_logit)) as double) as alive_probability,
    cast(ln(bounded_probability / (1 - bounded_probability)) as double) as no_order_logit,
    cast(alive_logit as double) as alive_logit,
    cast(expected_orders as double) as expected_orders
from bounded
