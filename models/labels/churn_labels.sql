with

snapshots as (
    select * from {{ ref('int_customer_snapshots') }} where is_newest or is_training
),

daily_orders as (
    select * from {{ ref('int_customer_daily_activity') }} where orders > 0
),

observed as (
    select as_of_date as observed_until from {{ ref('int_snapshot_dates') }} where is_newest
),

windows as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        {{ churn_radar.add_days('snapshots.as_of_date', var('churn__horizon_days')) }} as window_ends_on,
        observed.observed_until
    from snapshots
    cross join observed
),

orders_in_window as (
    select
        windows.customer_id,
        windows.as_of_date,
        sum(daily_orders.orders) as horizon_orders,
        sum(daily_orders.amount) as horizon_spend
    from windows
    inner join daily_orders
        on
            windows.customer_id = daily_orders.customer_id
            and windows.as_of_date <= daily_orders.activity_date
            and windows.window_ends_on > daily_orders.activity_date
            and {{ churn_radar.known_now('daily_orders') }}
    group by windows.customer_id, windows.as_of_date
)

select
    windows.customer_id,
    windows.as_of_date,
    cast({{ var('churn__horizon_days') }} as integer) as horizon_days,
    windows.window_ends_on,
    cast(
        case
            when windows.window_ends_on <= windows.observed_until
                then case when orders_in_window.horizon_orders is null then 1 else 0 end
        end as integer
    ) as churned,
    cast(
        case when windows.window_ends_on <= windows.observed_until then coalesce(orders_in_window.horizon_orders, 0) end as bigint
    ) as horizon_orders,
    cast(
        case when windows.window_ends_on <= windows.observed_until then coalesce(orders_in_window.horizon_spend, 0) end as double
    ) as horizon_spend
from windows
left join orders_in_window
    on windows.customer_id = orders_in_window.customer_id and windows.as_of_date = orders_in_window.as_of_date
