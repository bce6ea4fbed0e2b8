with

snapshots as (
    select * from {{ ref('int_customer_snapshots') }} where is_newest or is_training
),

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

observed as (
    select observed_until from {{ ref('int_snapshot_dates') }} where is_newest
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
        count(*) as horizon_orders,
        sum({{ churn_radar.fixed_point('completed_orders.amount') }}) as horizon_spend
    from windows
    inner join completed_orders
        on
            windows.customer_id = completed_orders.customer_id
            and windows.as_of_date <= completed_orders.activity_date
            and windows.window_ends_on > completed_orders.activity_date
            and {{ churn_radar.known_now('completed_orders') }}
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
