with

contacts as (
    select
        *,
        cast(touched_at as date) as touched_on
    from {{ ref('stg_campaign_touches') }}
),

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

-- only contacts whose customer is in the spine at that date
snapshots as (
    select
        contact_snapshots.touch_id,
        contact_snapshots.as_of_date
    from {{ ref('int_contact_snapshots') }} as contact_snapshots
    inner join {{ ref('int_customer_snapshots') }} as spine
        on contact_snapshots.customer_id = spine.customer_id and contact_snapshots.as_of_date = spine.as_of_date
),

observed as (
    select
        as_of_date as newest_date,
        observed_until
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

windows as (
    select
        contacts.*,
        {{ churn_radar.add_days('contacts.touched_on', 1) }} as window_begins_on,
        {{ churn_radar.add_days('contacts.touched_on', var('churn__horizon_days') ~ ' + 1') }} as window_ends_on,
        observed.observed_until
    from contacts
    cross join observed
    where contacts.touched_at < cast(observed.newest_date as timestamp)
),

orders_in_window as (
    select
        windows.touch_id,
        sum({{ churn_radar.fixed_point('completed_orders.amount') }}) as horizon_spend
    from windows
    inner join completed_orders
        on
            windows.customer_id = completed_orders.customer_id
            and windows.window_begins_on <= completed_orders.activity_date
            and windows.window_ends_on > completed_orders.activity_date
            and {{ churn_radar.known_now('completed_orders') }}
    group by windows.touch_id
),

orders_before as (
    select
        windows.touch_id,
        max(completed_orders.activity_date) as last_order_date
    from windows
    inner join completed_orders
        on
            windows.customer_id = completed_orders.customer_id
            and {{ churn_radar.add_days('windows.touched_on', '-' ~ var('churn__activity_days')) }} <= completed_orders.activity_date
            and windows.touched_on > completed_orders.activity_date
            and {{ churn_radar.known_now('completed_orders') }}
    group by windows.touch_id
)

select
    windows.touch_id,
    windows.customer_id,
    windows.campaign_id,
    windows.action,
    windows.touched_at,
    windows.propensity,
    windows.cost,
    windows.redeemed_at is not null as is_redeemed,
    orders_before.touch_id is not null as is_active,
    {{ churn_radar.days_between('orders_before.last_order_date', 'windows.touched_on') }} as days_since_last_order,
    snapshots.as_of_date,
    windows.window_ends_on,
    case
        when windows.window_ends_on <= windows.observed_until
            then case when orders_in_window.touch_id is null then 1 else 0 end
    end as churned,
    cast(
        case
            when windows.window_ends_on <= windows.observed_until then coalesce(orders_in_window.horizon_spend, 0)
        end as decimal(28, 4)
    ) as horizon_spend
from windows
left join orders_in_window on windows.touch_id = orders_in_window.touch_id
left join orders_before on windows.touch_id = orders_before.touch_id
left join snapshots on windows.touch_id = snapshots.touch_id
