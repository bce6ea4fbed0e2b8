with

changes as (
    select
        customer_id,
        max(superseded_at) as changed_at
    from {{ ref('int_attribute_changes') }}
    group by customer_id
)

select
    customers.customer_id,
    customers.signed_up_at,
    {{ churn_radar.name_value_array(churn_radar.attributes_of('customers'), 'customers') }} as attributes,
    changes.changed_at as known_at,
    cast(null as timestamp) as superseded_at
from {{ ref('stg_customers') }} as customers
left join changes on customers.customer_id = changes.customer_id

union all

select
    overwritten.customer_id,
    customers.signed_up_at,
    overwritten.attributes,
    overwritten.known_at,
    overwritten.superseded_at
from {{ ref('int_attribute_changes') }} as overwritten
inner join {{ ref('stg_customers') }} as customers on overwritten.customer_id = customers.customer_id
