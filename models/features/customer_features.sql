{%- set attributes = var('churn__customer_attributes') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

customers as (
    select * from {{ ref('stg_customers') }}
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    {{ churn_radar.packed(attributes, 'customers') }} as attributes
from snapshots
left join customers -- noqa: ST11
    on
        snapshots.customer_id = customers.customer_id
        -- nothing is known of a customer who had not signed up yet
        and coalesce(customers.signed_up_at < cast(snapshots.as_of_date as timestamp), true)
