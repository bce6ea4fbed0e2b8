{#- int_customer_orders as the last build left it, which has read this table; not a ref, as that would be a circle -#}
{%- set content = ['order_id', 'customer_id', 'status', 'ordered_at', 'amount', 'discount_amount', 'has_coupon'] -%}
{%- set now = 'select *, coupon_code is not null as has_coupon from ' ~ ref('stg_orders') ~ ' where superseded_at is null' -%}
{%- set before = churn_radar.built_before('int_customer_orders', 'orders', content, now) -%}
{#- with status_changed_at nothing needs to be remembered -#}
{%- if churn_radar.is_recorded('orders', 'status_changed_at') and not churn_radar.is_recorded('orders', 'loaded_at') -%}
    {%- set before = none -%}
{%- endif -%}
{%- set dates_before = churn_radar.built_table('int_snapshot_dates') -%}
{%- set ordered_on = 'cast(ordered_at as date)' -%}
{%- set counted = "status = 'completed' and " ~ churn_radar.moves_newest_date(ordered_on) -%}
{%- set last_order_date = '(select max(' ~ ordered_on ~ ') from orders where ' ~ counted ~ ')' -%}
{%- set midnight = churn_radar.newest_as_of_date(last_order_date) -%}

with

versions_before as (
    {%- if before is not none %}
    select
        *,
        {{ churn_radar.fast_hash(content | join(', ')) }} as content_hash
    from {{ before }}
    {%- else %}
    select
        staged.*,
        staged.coupon_code is not null as has_coupon,
        staged.loaded_at as known_at,
        cast(0 as bigint) as content_hash
    from {{ ref('stg_orders') }} as staged
    where false
    {%- endif %}
),

orders as (
    select
        *,
        {{ churn_radar.fast_hash(content | join(', ')) }} as content_hash
    from (
        {{ churn_radar.orders_as_known('versions_before') }}
    ) as known_orders
),

-- without an arrival time, a change can have happened until the midnight of this build's as-of date; but an earlier build
-- for a later date saw the order as it was before
build as (
    select max(changed_at) as changed_at
    from (
        select cast({{ midnight }} as timestamp) - interval '1' second as changed_at
        {%- if dates_before is not none %}
        union all
        select cast(as_of_date as timestamp) as changed_at
        from {{ dates_before }}
        where
            was_asked
            and as_of_date <> {{ midnight }}
            and as_of_date <= {{ churn_radar.add_days(churn_radar.today(), 1) }}
        {%- endif %}
    ) as midnights
),

-- newest versions of the last build that the shop has overwritten, perhaps with a later loaded_at and nothing else
overwritten as (
    select versions_before.*
    from versions_before
    left join orders on versions_before.content_hash = orders.content_hash and versions_before.known_at >= orders.known_at
    where versions_before.superseded_at is null and orders.content_hash is null
)

-- orders that the shop has deleted are forgotten
select
    overwritten.order_id,
    overwritten.customer_id,
    overwritten.status,
    overwritten.ordered_at,
    coalesce(same_before.known_at, overwritten.known_at) as known_at,
    case when orders.known_at > overwritten.known_at then orders.known_at else build.changed_at end as superseded_at,
    overwritten.amount,
    overwritten.discount_amount,
    overwritten.has_coupon
from overwritten
inner join orders on overwritten.order_id = orders.order_id and orders.superseded_at is null
cross join build
left join versions_before as same_before
    on overwritten.content_hash = same_before.content_hash and overwritten.known_at = same_before.superseded_at
where build.changed_at > overwritten.known_at or orders.known_at > overwritten.known_at
