with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

known_attributes as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        customers.attributes
    from snapshots
    inner join {{ ref('int_customer_attributes') }} as customers
        on
            snapshots.customer_id = customers.customer_id
            -- attributes are used only from the sign-up on
            and coalesce(customers.signed_up_at < cast(snapshots.as_of_date as timestamp), true)
            and coalesce(customers.known_at < cast(snapshots.as_of_date as timestamp), true)
            and coalesce(cast(snapshots.as_of_date as timestamp) <= customers.superseded_at, true)
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    known_attributes.attributes
from snapshots
left join known_attributes
    on snapshots.customer_id = known_attributes.customer_id and snapshots.as_of_date = known_attributes.as_of_date
