{#- a completed order has not changed, whatever its status_changed_at says -#}
{%- set changed_at = "case when status <> 'completed' then status_changed_at end" -%}
{%- set changes_status = churn_radar.is_recorded('orders', 'status_changed_at') and not churn_radar.is_recorded('orders', 'loaded_at') -%}

with

-- what the shop has overwritten, as earlier builds have seen it
overwritten as (
    select
        *,
        row_number() over (partition by order_id order by known_at) as version
    from {{ ref('int_order_changes') }}
),

staged as (
    {%- if changes_status %}
    {{ churn_radar.orders_as_known('overwritten', changed_at, 'refunds.known_at > refunds.ordered_at') }}
    {%- else %}
    {{ churn_radar.orders_as_known('overwritten') }}
    {%- endif %}
),

changes as (
    select
        order_id,
        count(*) as versions,
        max(superseded_at) as changed_at
    from overwritten
    group by order_id
),

orders as (
    select
        staged.order_id,
        staged.version + coalesce(changes.versions, 0) as version,
        staged.customer_id,
        staged.status,
        staged.ordered_at,
        greatest(staged.known_at, coalesce(changes.changed_at, staged.known_at)) as known_at,
        staged.superseded_at,
        staged.amount,
        staged.discount_amount,
        staged.has_coupon
    from staged
    left join changes on staged.order_id = changes.order_id

    {%- if changes_status %}

    union all

    -- an order was completed until its status changed; a refund beside its order is none
    select
        order_id,
        0 as version,
        customer_id,
        'completed' as status,
        ordered_at,
        ordered_at as known_at,
        known_at as superseded_at,
        amount,
        discount_amount,
        has_coupon
    from staged
    where status in ('cancelled', 'returned') and known_at > ordered_at
    {%- endif %}

    union all

    select
        overwritten.order_id,
        overwritten.version,
        overwritten.customer_id,
        overwritten.status,
        overwritten.ordered_at,
        overwritten.known_at,
        overwritten.superseded_at,
        overwritten.amount,
        overwritten.discount_amount,
        overwritten.has_coupon
    from overwritten
    inner join staged on overwritten.order_id = staged.order_id and staged.superseded_at is null
),

category_totals as (
    select
        order_id,
        category,
        sum({{ churn_radar.fixed_point('quantity') }}) as items,
        sum({{ churn_radar.fixed_point('quantity * unit_price') }}) as amount
    from {{ ref('stg_order_items') }}
    group by order_id, category
),

contents as (
    select
        order_id,
        sum(items) as items,
        -- the category with the highest amount
        {{ churn_radar.first_by('category', ['case when category is null then 1 else 0 end', '-amount', 'category']) }} as category
    from category_totals
    group by order_id
)

select
    orders.order_id,
    orders.version,
    orders.customer_id,
    orders.status,
    orders.ordered_at,
    cast(orders.ordered_at as date) as activity_date,
    orders.known_at,
    cast(orders.known_at as date) as arrived_date,
    orders.superseded_at,
    cast(orders.superseded_at as date) as superseded_date,
    orders.amount,
    orders.discount_amount,
    orders.has_coupon,
    -- an order of midnight sharp has a date, but no time of day
    case
        when orders.ordered_at > cast(cast(orders.ordered_at as date) as timestamp) then extract(hour from orders.ordered_at)
    end as hour_of_day,
    {{ churn_radar.as_double('contents.items') }} as items,
    contents.category
from orders
left join contents on orders.order_id = contents.order_id
-- no snapshot ever sees a version that was superseded on the day it arrived
where orders.superseded_at is null or cast(orders.superseded_at as date) > cast(orders.known_at as date)
