with

newest as (
    select as_of_date as observed_until from {{ ref('int_snapshot_dates') }} where is_newest
),

contacts as (
    select
        touches.touch_id,
        touches.customer_id,
        {{ churn_radar.grid_day('cast(touches.touched_at as date)') }} as as_of_date,
        row_number() over (order by touches.touched_at desc, touches.touch_id desc) as newest_first
    from {{ ref('stg_campaign_touches') }} as touches
    cross join newest
    where
        touches.propensity > 0
        and touches.propensity < 1
        and touches.touched_at < cast(newest.observed_until as timestamp)
)

select
    contacts.touch_id,
    contacts.customer_id,
    contacts.as_of_date
from contacts
inner join {{ ref('int_snapshot_dates') }} as snapshot_dates
    on contacts.as_of_date = snapshot_dates.as_of_date and snapshot_dates.is_contact
where contacts.newest_first <= {{ var('churn__contact_rows') }}
