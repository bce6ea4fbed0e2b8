{%- set zero = churn_radar.zero_if_present('events') -%}

with

customers as (
    select * from {{ ref('stg_customers') }}
),

daily_events as (
    select * from {{ ref('int_customer_daily_events') }}
),

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

windows as (
    select
        as_of_date,
        is_newest,
        {{ churn_radar.add_days('as_of_date', '-' ~ var('churn__activity_days')) }} as activity_window_starts_on,
        {{ churn_radar.add_days('as_of_date', var('churn__horizon_days')) }} as label_window_ends_on
    from {{ ref('int_snapshot_dates') }}
    where is_newest or is_training
),

observed as (
    select observed_until from {{ ref('int_snapshot_dates') }} where is_newest
),

start_dates as (
    select
        customer_id,
        min(start_date) as start_date
    from (
        select
            customer_id,
            cast(signed_up_at as date) as start_date
        from customers
        where signed_up_at is not null
        union all
        select
            customer_id,
            activity_date as start_date
        from daily_events
    ) as all_starts
    group by customer_id
),

-- customers who started, or placed one order, in the activity window; only their earlier orders are looked up
candidates as (
    select
        start_dates.customer_id,
        windows.as_of_date
    from windows
    inner join start_dates
        on
            windows.as_of_date > start_dates.start_date
            and windows.activity_window_starts_on <= start_dates.start_date
    union distinct
    select
        completed_orders.customer_id,
        windows.as_of_date
    from windows
    inner join completed_orders
        on
            {{ churn_radar.known_at('completed_orders', 'windows.as_of_date') }}
            and windows.activity_window_starts_on <= completed_orders.activity_date
    group by completed_orders.customer_id, windows.as_of_date
    having count(*) = 1
),

known_orders as (
    select
        candidates.customer_id,
        candidates.as_of_date,
        count(completed_orders.activity_date) as orders,
        min(completed_orders.activity_date) as first_order_date
    from candidates
    left join completed_orders
        on
            candidates.customer_id = completed_orders.customer_id
            and {{ churn_radar.known_at('completed_orders', 'candidates.as_of_date') }}
    group by candidates.customer_id, candidates.as_of_date
),

newcomers as (
    select
        known_orders.customer_id,
        known_orders.as_of_date,
        windows.is_newest,
        windows.label_window_ends_on,
        case when known_orders.orders = 0 then 'sign_up_only' else 'one_order' end as kind,
        case when known_orders.orders = 0 then start_dates.start_date else known_orders.first_order_date end as start_date,
        {{ churn_radar.stable_hash("known_orders.customer_id || ' ' || " ~ churn_radar.as_text('known_orders.as_of_date')) }} as position
    from known_orders
    inner join windows on known_orders.as_of_date = windows.as_of_date
    left join start_dates on known_orders.customer_id = start_dates.customer_id
    where
        known_orders.orders = 0
        or (known_orders.orders = 1 and windows.activity_window_starts_on <= known_orders.first_order_date)
),

-- one in n is sampled; n is a power of two, so that the sample rarely changes as the shop grows
training_sample as (
    select
        {{ churn_radar.power_of_two('count(*) * 1.0 / ' ~ var('churn__training_rows')) }} as one_in
    from newcomers
    where not is_newest
),

sampled as (
    select newcomers.*
    from newcomers
    cross join training_sample
    where newcomers.is_newest or newcomers.position % training_sample.one_in = 0
),

visits as (
    select
        sampled.customer_id,
        sampled.as_of_date,
        max(daily_events.activity_date) as last_visit_date,
        count(
            distinct case
                when {{ churn_radar.add_days('sampled.as_of_date', -30) }} <= daily_events.activity_date then daily_events.activity_date
            end
        ) as visit_days_30d
    from sampled
    inner join daily_events
        on
            sampled.customer_id = daily_events.customer_id
            and sampled.as_of_date > daily_events.activity_date
            and {{ churn_radar.add_days('sampled.as_of_date', '-' ~ var('churn__history_days')) }} <= daily_events.activity_date
    group by sampled.customer_id, sampled.as_of_date
),

ordered_in_window as (
    select
        sampled.customer_id,
        sampled.as_of_date,
        true as ordered
    from sampled
    inner join completed_orders
        on
            sampled.customer_id = completed_orders.customer_id
            and sampled.as_of_date <= completed_orders.activity_date
            and sampled.label_window_ends_on > completed_orders.activity_date
            and {{ churn_radar.known_now('completed_orders') }}
    group by sampled.customer_id, sampled.as_of_date
)

select
    sampled.customer_id,
    sampled.as_of_date,
    sampled.is_newest,
    sampled.kind,
    cast({{ churn_radar.days_between('sampled.start_date', 'sampled.as_of_date') }} as bigint) as days_since_start,
    cast(coalesce(visits.visit_days_30d, 0) + {{ zero }} as bigint) as visit_days_30d,
    cast({{ churn_radar.days_between('visits.last_visit_date', 'sampled.as_of_date') }} as bigint) as days_since_last_visit,
    cast(
        case
            when sampled.label_window_ends_on <= observed.observed_until
                then case when ordered_in_window.ordered is null then 1 else 0 end
        end as integer
    ) as churned
from sampled
cross join observed
left join visits on sampled.customer_id = visits.customer_id and sampled.as_of_date = visits.as_of_date
left join ordered_in_window
    on sampled.customer_id = ordered_in_window.customer_id and sampled.as_of_date = ordered_in_window.as_of_date
