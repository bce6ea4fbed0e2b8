{%- set attributes = var('churn__customer_attributes') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

customers as (
    select * from {{ ref('stg_customers') }}
),

-- attributes are used only from the sign-up on
known_customers as (
    select
        snapshots.as_of_date,
        customers.*
    from snapshots
    inner join customers on snapshots.customer_id = customers.customer_id
    where coalesce(customers.signed_up_at < cast(snapshots.as_of_date as timestamp), true)
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    {{ churn_radar.name_value_array(attributes, 'known_customers') }} as attributes
from snapshots
left join known_customers -- noqa: ST11
    on snapshots.customer_id = known_customers.customer_id and snapshots.as_of_date = known_customers.as_of_date
