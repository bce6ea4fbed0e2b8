{%- set double = churn_radar.type_double() -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

forecasts as (
    select purchase_forecasts.*
    from {{ ref('purchase_forecasts') }} as purchase_forecasts
    inner join snapshots
        on purchase_forecasts.customer_id = snapshots.customer_id and purchase_forecasts.as_of_date = snapshots.as_of_date
),

bounded as (
    select
        customer_id,
        cast(as_of_date as date) as as_of_date,
        no_order_probability,
        -- log-odds of the certain would be infinite
        least(greatest(no_order_probability, 1e-6), 1 - 1e-6) as bounded_probability,
        alive_logit,
        expected_orders
    from forecasts
)

select
    customer_id,
    as_of_date,
    cast(no_order_probability as {{ double }}) as no_order_probability,
    cast({{ churn_radar.probability('alive_logit') }} as {{ double }}) as alive_probability,
    cast(ln(bounded_probability / (1 - bounded_probability)) as {{ double }}) as no_order_logit,
    cast(alive_logit as {{ double }}) as alive_logit,
    cast(expected_orders as {{ double }}) as expected_orders
from bounded
