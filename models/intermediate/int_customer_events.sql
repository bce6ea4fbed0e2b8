with

order_events as (
    select
        customer_id,
        'orders:' || order_id as event_id,
        case status when 'completed' then 'order' when 'refund' then 'other' else status end as event_type,
        ordered_at as occurred_at,
        known_at,
        superseded_at,
        amount,
        category
    from {{ ref('int_customer_orders') }}
),

-- the events of a day are one visit: its category is the event closest to a purchase, its amount the number of events
visits as (
    select
        customer_id,
        'events:' || {{ churn_radar.as_text('activity_date') }} as event_id,
        'visit' as event_type,
        last_event_at as occurred_at,
        last_event_at as known_at,
        cast(null as timestamp) as superseded_at,
        cast(events as double) as amount,
        case
            when cart_add_events > 0 then 'cart_add'
            when wishlist_events > 0 then 'wishlist'
            when search_events > 0 then 'search'
            when view_events > 0 then 'view'
            else 'other'
        end as category
    from {{ ref('int_customer_daily_events') }}
),

reviews as (
    select
        customer_id,
        'reviews:' || review_id as event_id,
        'review' as event_type,
        reviewed_at as occurred_at,
        greatest(reviewed_at, coalesce(loaded_at, reviewed_at)) as known_at,
        superseded_at,
        rating as amount,
        {{ churn_radar.as_text('null') }} as category
    from {{ ref('int_reviews') }}
),

tickets as (
    select
        customer_id,
        'support_tickets:' || ticket_id as event_id,
        'ticket' as event_type,
        opened_at as occurred_at,
        opened_at as known_at,
        cast(null as timestamp) as superseded_at,
        cast(null as double) as amount,
        topic as category
    from {{ ref('stg_support_tickets') }}
),

contacts as (
    select
        customer_id,
        'campaign_touches:' || touch_id as event_id,
        'contact' as event_type,
        touched_at as occurred_at,
        touched_at as known_at,
        cast(null as timestamp) as superseded_at,
        cast(null as double) as amount,
        action as category
    from {{ ref('stg_campaign_touches') }}
    where action <> 'holdout'
),

redemptions as (
    select
        customer_id,
        'campaign_touches:' || touch_id as event_id,
        'redemption' as event_type,
        redeemed_at as occurred_at,
        redeemed_at as known_at,
        cast(null as timestamp) as superseded_at,
        cast(null as double) as amount,
        action as category
    from {{ ref('stg_campaign_touches') }}
    where redeemed_at is not null
)

select * from order_events
union all
select * from visits
union all
select * from reviews
union all
select * from tickets
union all
select * from contacts
union all
select * from redemptions
