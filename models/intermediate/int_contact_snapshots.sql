with

newest as (
    select as_of_date from {{ ref('int_snapshot_dates') }} where is_newest
),

completed_orders as (
    select * from {{ ref('int_customer_orders') }} where status = 'completed'
),

contacts as (
    select
        touches.touch_id,
        touches.customer_id,
        touches.touched_at,
        {{ churn_radar.grid_day('cast(touches.touched_at as date)') }} as as_of_date
    from {{ ref('stg_campaign_touches') }} as touches
    cross join newest
    where
        touches.propensity > 0
        and touches.propensity < 1
        and touches.touched_at < cast(newest.as_of_date as timestamp)
)

select
    contacts.touch_id,
    contacts.customer_id,
    contacts.as_of_date
from contacts
inner join {{ ref('int_snapshot_dates') }} as snapshot_dates
    on contacts.as_of_date = snapshot_dates.as_of_date and snapshot_dates.is_contact
where
    -- only active customers, as effects are not learned from contacts with customers who had left
    exists (
        select 1
        from completed_orders
        where
            completed_orders.customer_id = contacts.customer_id
            and {{ churn_radar.known_at('completed_orders', 'contacts.as_of_date') }}
            and {{ churn_radar.add_days('contacts.as_of_date', '-' ~ var('churn__activity_days')) }}
            <= completed_orders.activity_date
    )
order by contacts.touched_at desc, contacts.touch_id desc
limit {{ var('churn__contact_rows') }}
