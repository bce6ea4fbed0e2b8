{%- set attributes = churn_radar.attributes_of('customers') -%}
{#- int_customer_attributes as the last build left it, which has read this table; not a ref, as that would be a circle -#}
{%- set now -%}
    select
        staged.customer_id,
        {{ churn_radar.name_value_array(attributes, 'staged') }} as attributes
    from {{ ref('stg_customers') }} as staged
{%- endset -%}
{%- set before = none -%}
{%- if attributes -%}
    {%- set before = churn_radar.built_before('int_customer_attributes', 'customers', ['customer_id', 'attributes'], now) -%}
{%- endif -%}

with

-- a change can have happened until the midnight of this build's as-of date; but an earlier build for a later date saw the
-- values before
build as (
    select
        max(
            case
                when is_newest then cast(as_of_date as timestamp) - interval '1' second
                else cast(as_of_date as timestamp)
            end
        ) as changed_at
    from {{ ref('int_snapshot_dates') }}
    where was_asked
),

customers as (
    {{ now }}
),

values_before as (
    {%- if before is none %}
    select
        customer_id,
        attributes,
        cast(null as timestamp) as known_at
    from customers
    where false
    {%- else %}
    select
        customer_id,
        attributes,
        known_at
    from {{ before }}
    where superseded_at is null
    {%- endif %}
)

select
    values_before.customer_id,
    values_before.attributes,
    values_before.known_at,
    build.changed_at as superseded_at
from values_before
inner join customers on values_before.customer_id = customers.customer_id
cross join build
where
    values_before.attributes <> customers.attributes
    and coalesce(values_before.known_at < build.changed_at, true)
