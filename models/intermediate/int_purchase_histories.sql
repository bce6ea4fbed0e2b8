with

daily_orders as (
    select * from {{ ref('int_customer_daily_activity') }} where orders > 0
),

snapshot_dates as (
    select * from {{ ref('int_snapshot_dates') }}
),

active_customers as (
    select
        daily_orders.customer_id,
        snapshot_dates.as_of_date,
        snapshot_dates.is_newest,
        {{ churn_radar.stable_hash("daily_orders.customer_id || ' ' || cast(snapshot_dates.as_of_date as varchar)") }} as position
    from snapshot_dates
    inner join daily_orders
        on
            snapshot_dates.as_of_date > daily_orders.activity_date
            and snapshot_dates.as_of_date > daily_orders.arrived_date
            and {{ churn_radar.add_days('snapshot_dates.as_of_date', -var('churn__activity_days')) }} <= daily_orders.activity_date
    group by daily_orders.customer_id, snapshot_dates.as_of_date, snapshot_dates.is_newest
),

-- one in how many: a power of two, so that a growing shop changes the sample rarely
training_sample as (
    select
        cast(
            power(2, ceil(log2(greatest(count(*) * 1.0 / {{ var('churn__training_rows') }}, 1)))) as bigint
        ) as one_in
    from active_customers
    where not is_newest
),

snapshot_pairs as (
    select
        active_customers.customer_id,
        active_customers.as_of_date
    from active_customers
    cross join training_sample
    where active_customers.is_newest or active_customers.position % training_sample.one_in = 0
),

customers as (
    select
        customer_id,
        {{ churn_radar.stable_hash('customer_id') }} as position
    from daily_orders
    group by customer_id
),

forecast_sample as (
    select
        cast(
            power(2, ceil(log2(greatest(count(*) * 1.0 / {{ churn_radar.forecast_sample_customers() }}, 1)))) as bigint
        ) as one_in
    from customers
),

forecast_pairs as (
    select
        customers.customer_id,
        snapshot_dates.as_of_date
    from customers
    cross join forecast_sample
    cross join snapshot_dates
    where customers.position % forecast_sample.one_in = 0
),

pairs as (
    select
        customer_id,
        as_of_date,
        max(is_snapshot) = 1 as is_snapshot,
        max(is_forecast_sample) = 1 as is_forecast_sample
    from (
        select
            *,
            1 as is_snapshot,
            0 as is_forecast_sample
        from snapshot_pairs
        union all
        select
            *,
            0 as is_snapshot,
            1 as is_forecast_sample
        from forecast_pairs
    ) as all_pairs
    group by customer_id, as_of_date
)

select
    pairs.customer_id,
    pairs.as_of_date,
    pairs.is_snapshot,
    pairs.is_forecast_sample,
    min(daily_orders.activity_date) as first_order_date,
    max(daily_orders.activity_date) as last_order_date,
    cast(sum(daily_orders.orders) as bigint) as orders,
    count(distinct daily_orders.activity_date) as order_days
from pairs
inner join daily_orders
    on
        pairs.customer_id = daily_orders.customer_id
        and pairs.as_of_date > daily_orders.activity_date
        and pairs.as_of_date > daily_orders.arrived_date
group by pairs.customer_id, pairs.as_of_date, pairs.is_snapshot, pairs.is_forecast_sample
