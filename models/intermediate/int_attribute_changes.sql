{%- set attributes = var('churn__customer_attributes') -%}
{#- int_customer_attributes as the last build left it, which has read this table; not a ref, as that would be a circle -#}
{%- set before = churn_radar.built_before('int_customer_attributes') if attributes else none -%}

with

-- a change can have happened until the midnight of this build's as-of date
build as (
    select cast(as_of_date as timestamp) - interval '1' second as changed_at
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

customers as (
    select
        customer_id,
        {{ churn_radar.name_value_array(attributes, 'customers') }} as attributes
    from {{ ref('stg_customers') }} as customers
)

select
    values_before.customer_id,
    values_before.attributes,
    values_before.known_at,
    build.changed_at as superseded_at
{%- if before is none %}
from (
    select
        customer_id,
        attributes,
        cast(null as timestamp) as known_at,
        cast(null as timestamp) as superseded_at
    from customers
    where false
) as values_before
{%- else %}
from {{ before }} as values_before
{%- endif %}
inner join customers on values_before.customer_id = customers.customer_id
cross join build
where
    values_before.superseded_at is null
    and values_before.attributes <> customers.attributes
    and coalesce(values_before.known_at < build.changed_at, true)
