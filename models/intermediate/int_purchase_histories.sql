with

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

-- as-of dates of builds hold all active customers, other training dates a sample
dates as (
    select
        as_of_date,
        is_newest or coalesce(was_asked, false) as holds_all,
        coalesce(is_training, false) as is_training,
        greatest(count(case when is_training then 1 end) over (), 1) as training_dates
    from {{ ref('int_snapshot_dates') }}
),

-- plus active customers with a randomised contact
contacts as (
    select distinct
        customer_id,
        as_of_date
    from {{ ref('int_contact_snapshots') }}
),

contacts_of_dates as (
    select
        as_of_date,
        cast(sum({{ churn_radar.stable_hash('customer_id') }}) as bigint) as contacts_hash
    from contacts
    group by as_of_date
),
{%- if is_incremental() %}

built_dates as (
    select
        as_of_date,
        max(contacts_hash) as contacts_hash,
        max(active_customers) as active_customers,
        max(one_in) as one_in
    from {{ this }}
    group by as_of_date
),
{%- endif %}

dates_to_build as (
    select dates.*
    from dates
    {% if is_incremental() %}
    left join built_dates on dates.as_of_date = built_dates.as_of_date
    left join contacts_of_dates on dates.as_of_date = contacts_of_dates.as_of_date
    where
        built_dates.as_of_date is null
        or {{ churn_radar.is_in_lookback_window('dates.as_of_date', ref('int_snapshot_dates')) }}
        or built_dates.one_in <> {{ churn_radar.one_in('dates', 'built_dates.active_customers * dates.training_dates') }}
        or built_dates.contacts_hash <> coalesce(contacts_of_dates.contacts_hash, 0)
    {% endif %}
),

-- dates that are needed only for contacts hold no other customers
active_customers as (
    select
        completed_orders.customer_id,
        dates.as_of_date,
        {{ churn_radar.stable_hash("completed_orders.customer_id || ' ' || " ~ churn_radar.as_text('dates.as_of_date')) }} as position
    from dates_to_build as dates
    inner join completed_orders
        on
            {{ churn_radar.known_at('completed_orders', 'dates.as_of_date') }}
            and {{ churn_radar.add_days('dates.as_of_date', '-' ~ var('churn__activity_days')) }} <= completed_orders.activity_date
    where dates.holds_all or dates.is_training
    group by completed_orders.customer_id, dates.as_of_date
),

counted_dates as (
    select
        dates.as_of_date,
        dates.holds_all,
        dates.is_training,
        dates.training_dates,
        count(active_customers.customer_id) as active_customers
    from dates_to_build as dates
    left join active_customers on dates.as_of_date = active_customers.as_of_date
    group by dates.as_of_date, dates.holds_all, dates.is_training, dates.training_dates
),

sampled_dates as (
    select
        counted_dates.as_of_date,
        counted_dates.active_customers,
        coalesce(contacts_of_dates.contacts_hash, 0) as contacts_hash,
        {{ churn_radar.one_in('counted_dates', 'counted_dates.active_customers * counted_dates.training_dates') }} as one_in
    from counted_dates
    left join contacts_of_dates on counted_dates.as_of_date = contacts_of_dates.as_of_date
),

sampled_pairs as (
    select
        active_customers.customer_id,
        active_customers.as_of_date
    from active_customers
    inner join sampled_dates on active_customers.as_of_date = sampled_dates.as_of_date
    where sampled_dates.one_in > 0 and active_customers.position % nullif(sampled_dates.one_in, 0) = 0
),

contact_pairs as (
    select
        contacts.customer_id,
        contacts.as_of_date
    from contacts
    inner join dates_to_build on contacts.as_of_date = dates_to_build.as_of_date
),

customers as (
    select
        customer_id,
        {{ churn_radar.stable_hash('customer_id') }} as position,
        min(arrived_date) as known_from
    from completed_orders
    group by customer_id
),

arrivals as (
    select
        known_from,
        count(*) as customers
    from customers
    group by known_from
),

-- sampled from the customers known at the date, so that later customers do not change the forecast
forecast_dates as (
    select
        dates.as_of_date,
        {{ churn_radar.power_of_two('sum(arrivals.customers) * 1.0 / ' ~ churn_radar.forecast_sample_customers()) }} as one_in
    from dates_to_build as dates
    inner join arrivals on dates.as_of_date > arrivals.known_from
    group by dates.as_of_date
),

forecast_pairs as (
    select
        customers.customer_id,
        forecast_dates.as_of_date
    from customers
    inner join forecast_dates
        on customers.known_from < forecast_dates.as_of_date and customers.position % forecast_dates.one_in = 0
),

pairs as (
    select
        customer_id,
        as_of_date,
        max(is_snapshot) = 1 as is_snapshot,
        max(is_sampled) = 1 as is_sampled,
        max(is_forecast_sample) = 1 as is_forecast_sample
    from (
        select
            *,
            1 as is_snapshot,
            1 as is_sampled,
            0 as is_forecast_sample
        from sampled_pairs
        union all
        select
            *,
            1 as is_snapshot,
            0 as is_sampled,
            0 as is_forecast_sample
        from contact_pairs
        union all
        select
            *,
            0 as is_snapshot,
            0 as is_sampled,
            1 as is_forecast_sample
        from forecast_pairs
    ) as all_pairs
    group by customer_id, as_of_date
),

known_orders as (
    select
        pairs.customer_id,
        pairs.as_of_date,
        min(completed_orders.activity_date) as first_order_date,
        max(completed_orders.activity_date) as last_order_date,
        count(*) as orders,
        count(distinct completed_orders.activity_date) as order_days
    from pairs
    inner join completed_orders
        on
            pairs.customer_id = completed_orders.customer_id
            and {{ churn_radar.known_at('completed_orders', 'pairs.as_of_date') }}
    group by pairs.customer_id, pairs.as_of_date
)

select
    pairs.customer_id,
    pairs.as_of_date,
    pairs.is_snapshot,
    pairs.is_sampled,
    pairs.is_forecast_sample,
    sampled_dates.active_customers,
    sampled_dates.one_in,
    sampled_dates.contacts_hash,
    known_orders.first_order_date,
    known_orders.last_order_date,
    known_orders.orders,
    known_orders.order_days
from pairs
inner join sampled_dates on pairs.as_of_date = sampled_dates.as_of_date
inner join known_orders on pairs.customer_id = known_orders.customer_id and pairs.as_of_date = known_orders.as_of_date
