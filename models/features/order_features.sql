{%- set windows = [7, 30, 90, 180, 365] -%}
{%- set horizon = var('churn__horizon_days') -%}
{%- set no_items = churn_radar.zero_if_present('order_items') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

orders as (
    select
        *,
        case when status = 'completed' then 1 else 0 end as is_completed,
        -- what was paid less what was refunded
        {{ churn_radar.fixed_point("case when status in ('completed', 'refund') then amount else 0 end") }} as spend
    from {{ ref('int_customer_orders') }}
),

known_orders as (
    select
        snapshots.as_of_date,
        orders.*,
        {{ churn_radar.days_between('orders.activity_date', 'snapshots.as_of_date') }} as days_ago
    from snapshots
    inner join orders
        on
            snapshots.customer_id = orders.customer_id
            and {{ churn_radar.known_at('orders', 'snapshots.as_of_date') }}
            and {{ churn_radar.add_days('snapshots.as_of_date', '-' ~ var('churn__history_days')) }} <= orders.activity_date
),

windowed_orders as (
    select
        customer_id,
        as_of_date,
        {%- for days in windows %}
        sum(case when days_ago <= {{ days }} then is_completed else 0 end) as orders_{{ days }}d,
        cast(sum(case when days_ago <= {{ days }} then spend else 0 end) as double) as spend_{{ days }}d,
        {%- endfor %}
        sum(is_completed) as orders_total,
        cast(sum(spend) as double) as spend_total,
        sum(case when days_ago > 30 and days_ago <= 60 then is_completed else 0 end) as orders_previous_30d,
        cast(sum(case when days_ago > 30 and days_ago <= 60 then spend else 0 end) as double) as spend_previous_30d,
        sum(case when days_ago > 90 and days_ago <= 180 then is_completed else 0 end) as orders_previous_90d,
        cast(sum(case when days_ago > 90 and days_ago <= 180 then spend else 0 end) as double) as spend_previous_90d,
        sum(case when days_ago > 365 - {{ horizon }} and days_ago <= 365 then is_completed else 0 end) as orders_same_window_last_year,
        cast(
            sum(case when days_ago > 365 - {{ horizon }} and days_ago <= 365 then spend else 0 end) as double
        ) as spend_same_window_last_year,
        max(case when status = 'completed' then amount end) as largest_order_amount,
        cast(sum(case when status = 'completed' then {{ churn_radar.fixed_point('discount_amount') }} end) as double) as discount_total,
        count(case when days_ago <= 90 and status = 'completed' and has_coupon then 1 end) as coupon_orders_90d,
        count(case when status = 'cancelled' then 1 end) as cancelled_orders_total,
        count(case when status = 'returned' then 1 end) as returned_orders_total,
        cast(
            sum(case when days_ago <= 90 and status = 'completed' then {{ churn_radar.fixed_point('items', 28) }} end) as double
        ) as items_90d,
        cast(sum(case when status = 'completed' then {{ churn_radar.fixed_point('items', 28) }} end) as double) as items_total,
        sum(case when {{ churn_radar.day_of_week('activity_date') }} >= 6 then is_completed else 0 end) as weekend_orders,
        count(case when status = 'completed' then hour_of_day end) as timed_orders,
        count(case when status = 'completed' and hour_of_day < 6 then 1 end) as night_orders,
        count(case when status = 'completed' and hour_of_day between 6 and 11 then 1 end) as morning_orders,
        count(case when status = 'completed' and hour_of_day between 12 and 17 then 1 end) as afternoon_orders,
        count(case when status = 'completed' and hour_of_day >= 18 then 1 end) as evening_orders
    from known_orders
    group by customer_id, as_of_date
),

-- days since the order before; 0 for further orders of a day
order_gaps as (
    select
        customer_id,
        as_of_date,
        days_ago,
        {{ churn_radar.days_between(
            'lag(activity_date) over (partition by customer_id, as_of_date order by activity_date)', 'activity_date'
        ) }} as gap_days
    from known_orders
    where status = 'completed'
),

gaps as (
    select
        customer_id,
        as_of_date,
        {{ churn_radar.mean('gap_days') }} as gap_mean_days,
        -- standard deviation from sums of integers, so that the result does not depend on the order of summation
        sqrt(
            cast(count(gap_days) * sum(gap_days * gap_days) - sum(gap_days) * sum(gap_days) as double)
            / nullif(count(gap_days) * (count(gap_days) - 1), 0)
        ) as gap_std_days,
        max(gap_days) as gap_max_days,
        {{ churn_radar.first_by('gap_days', ['days_ago']) }} as last_gap_days
    from order_gaps
    where gap_days > 0
    group by customer_id, as_of_date
),

known_items as (
    select
        known_orders.customer_id,
        known_orders.as_of_date,
        known_orders.days_ago,
        order_items.product_id,
        order_items.category,
        {{ churn_radar.fixed_point('order_items.quantity * order_items.unit_price') }} as amount
    from known_orders
    inner join {{ ref('stg_order_items') }} as order_items on known_orders.order_id = order_items.order_id
    where known_orders.days_ago <= 90 and known_orders.status = 'completed'
),

product_variety as (
    select
        customer_id,
        as_of_date,
        count(distinct case when days_ago <= 30 then product_id end) as distinct_products_30d,
        count(distinct product_id) as distinct_products_90d
    from known_items
    group by customer_id, as_of_date
),

category_spend as (
    select
        customer_id,
        as_of_date,
        category,
        max(case when days_ago <= 30 then 1 else 0 end) as bought_30d,
        sum(amount) as amount
    from known_items
    where category is not null
    group by customer_id, as_of_date, category
),

category_variety as (
    select
        customer_id,
        as_of_date,
        sum(bought_30d) as distinct_categories_30d,
        count(*) as distinct_categories_90d,
        cast(max(amount) as double) / nullif(cast(sum(amount) as double), 0) as favourite_category_share_90d
    from category_spend
    group by customer_id, as_of_date
),

dates as (
    select distinct as_of_date from snapshots
),

arrivals as (
    select
        arrived_date,
        min(activity_date) as first_date
    from orders
    group by arrived_date
),

-- first order day of the shop as known at each date, as older orders may have arrived later
shop_history as (
    select
        dates.as_of_date,
        min(arrivals.first_date) as first_date
    from dates
    inner join arrivals on dates.as_of_date > arrivals.arrived_date
    group by dates.as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,

    -- recency and tenure
    cast({{ churn_radar.days_between('snapshots.last_order_date', 'snapshots.as_of_date') }} as bigint) as days_since_last_order,
    cast({{ churn_radar.days_between('snapshots.first_order_date', 'snapshots.as_of_date') }} as bigint) as days_since_first_order,
    cast(
        (extract(year from snapshots.as_of_date) - extract(year from snapshots.first_order_date)) * 12
        + extract(month from snapshots.as_of_date) - extract(month from snapshots.first_order_date) as bigint
    ) as months_since_first_order,

    -- frequency and spend
    {%- for days in windows %}
    cast(coalesce(windowed_orders.orders_{{ days }}d, 0) as bigint) as orders_{{ days }}d,
    {%- endfor %}
    cast(coalesce(windowed_orders.orders_total, 0) as bigint) as orders_total,
    {%- for days in windows %}
    cast(coalesce(windowed_orders.spend_{{ days }}d, 0) as double) as spend_{{ days }}d,
    {%- endfor %}
    cast(coalesce(windowed_orders.spend_total, 0) as double) as spend_total,
    cast(windowed_orders.spend_total / nullif(windowed_orders.orders_total, 0) as double) as average_order_amount,
    cast(windowed_orders.largest_order_amount as double) as largest_order_amount,

    -- trends; where more was refunded than paid, nothing was spent
    cast(windowed_orders.orders_30d + 1 as double) / (windowed_orders.orders_previous_30d + 1) as orders_trend_30d,
    cast(windowed_orders.orders_90d + 1 as double) / (windowed_orders.orders_previous_90d + 1) as orders_trend_90d,
    (greatest(windowed_orders.spend_30d, 0) + 1) / (greatest(windowed_orders.spend_previous_30d, 0) + 1) as spend_trend_30d,
    (greatest(windowed_orders.spend_90d, 0) + 1) / (greatest(windowed_orders.spend_previous_90d, 0) + 1) as spend_trend_90d,

    -- season: the label window a year earlier; null before the shop's first order
    cast(
        case
            when shop_history.first_date <= {{ churn_radar.add_days('snapshots.as_of_date', -365) }}
                then coalesce(windowed_orders.orders_same_window_last_year, 0)
        end as bigint
    ) as orders_same_window_last_year,
    cast(
        case
            when shop_history.first_date <= {{ churn_radar.add_days('snapshots.as_of_date', -365) }}
                then coalesce(windowed_orders.spend_same_window_last_year, 0)
        end as double
    ) as spend_same_window_last_year,

    -- gaps between order days
    gaps.gap_mean_days,
    gaps.gap_std_days,
    gaps.gap_std_days / nullif(gaps.gap_mean_days, 0) as gap_cv,
    cast(gaps.gap_max_days as bigint) as gap_max_days,
    cast(gaps.last_gap_days as bigint) as last_gap_days,
    cast(
        {{ churn_radar.days_between('snapshots.last_order_date', 'snapshots.as_of_date') }} / nullif(gaps.gap_mean_days, 0) as double
    ) as overdue_ratio,

    -- baskets
    cast(windowed_orders.items_90d as double) as items_90d,
    cast(windowed_orders.items_total / nullif(windowed_orders.orders_total, 0) as double) as items_per_order,
    cast(coalesce(product_variety.distinct_products_30d, {{ no_items }}) as bigint) as distinct_products_30d,
    cast(coalesce(product_variety.distinct_products_90d, {{ no_items }}) as bigint) as distinct_products_90d,
    cast(coalesce(category_variety.distinct_categories_30d, {{ no_items }}) as bigint) as distinct_categories_30d,
    cast(coalesce(category_variety.distinct_categories_90d, {{ no_items }}) as bigint) as distinct_categories_90d,
    cast(category_variety.favourite_category_share_90d as double) as favourite_category_share_90d,

    -- discounts, returns and cancellations
    cast(
        windowed_orders.discount_total / nullif(windowed_orders.discount_total + windowed_orders.spend_total, 0) as double
    ) as discount_share,
    cast({{ 'windowed_orders.coupon_orders_90d' if churn_radar.is_recorded('orders', 'coupon_code') else 'null' }} as double)
    / nullif(windowed_orders.orders_90d, 0) as coupon_order_share_90d,
    cast(windowed_orders.returned_orders_total as double)
    / nullif(
        windowed_orders.orders_total + windowed_orders.returned_orders_total + windowed_orders.cancelled_orders_total, 0
    ) as returned_order_share,
    cast(windowed_orders.cancelled_orders_total as double)
    / nullif(
        windowed_orders.orders_total + windowed_orders.returned_orders_total + windowed_orders.cancelled_orders_total, 0
    ) as cancelled_order_share,

    -- weekday and part of day, of the orders whose time of day is recorded
    cast(windowed_orders.weekend_orders as double) / nullif(windowed_orders.orders_total, 0) as weekend_order_share,
    cast(windowed_orders.night_orders as double) / nullif(windowed_orders.timed_orders, 0) as night_order_share,
    cast(windowed_orders.morning_orders as double) / nullif(windowed_orders.timed_orders, 0) as morning_order_share,
    cast(windowed_orders.afternoon_orders as double) / nullif(windowed_orders.timed_orders, 0) as afternoon_order_share,
    cast(windowed_orders.evening_orders as double) / nullif(windowed_orders.timed_orders, 0) as evening_order_share
from snapshots
left join shop_history on snapshots.as_of_date = shop_history.as_of_date
left join windowed_orders
    on snapshots.customer_id = windowed_orders.customer_id and snapshots.as_of_date = windowed_orders.as_of_date
left join gaps
    on snapshots.customer_id = gaps.customer_id and snapshots.as_of_date = gaps.as_of_date
left join product_variety
    on snapshots.customer_id = product_variety.customer_id and snapshots.as_of_date = product_variety.as_of_date
left join category_variety
    on snapshots.customer_id = category_variety.customer_id and snapshots.as_of_date = category_variety.as_of_date
