{%- set zero = churn_radar.zero_if_present('campaign_touches') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

contacts as (
    select * from {{ ref('stg_campaign_touches') }} where action != 'holdout'
),

known_contacts as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        {{ churn_radar.days_between('cast(contacts.touched_at as date)', 'snapshots.as_of_date') }} as days_ago,
        case
            when contacts.redeemed_at < cast(snapshots.as_of_date as timestamp)
                then {{ churn_radar.days_between('cast(contacts.redeemed_at as date)', 'snapshots.as_of_date') }}
        end as redeemed_days_ago
    from snapshots
    inner join contacts
        on
            snapshots.customer_id = contacts.customer_id
            and cast(snapshots.as_of_date as timestamp) > contacts.touched_at
            and {{ churn_radar.add_days('snapshots.as_of_date', '-' ~ var('churn__history_days')) }} <= cast(contacts.touched_at as date)
),

contact_history as (
    select
        customer_id,
        as_of_date,
        count(case when days_ago <= 30 then 1 end) as contacts_30d,
        count(case when days_ago <= 90 then 1 end) as contacts_90d,
        count(redeemed_days_ago) as redemptions_total,
        count(case when redeemed_days_ago <= 90 then 1 end) as redemptions_90d,
        cast(count(redeemed_days_ago) as double) / count(*) as redemption_rate,
        min(redeemed_days_ago) as days_since_last_redemption,
        min(days_ago) as days_since_last_contact
    from known_contacts
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(coalesce(contact_history.contacts_30d, {{ zero }}) as bigint) as contacts_30d,
    cast(coalesce(contact_history.contacts_90d, {{ zero }}) as bigint) as contacts_90d,
    cast(coalesce(contact_history.redemptions_total, {{ zero }}) as bigint) as redemptions_total,
    cast(coalesce(contact_history.redemptions_90d, {{ zero }}) as bigint) as redemptions_90d,
    contact_history.redemption_rate,
    cast(contact_history.days_since_last_redemption as bigint) as days_since_last_redemption,
    cast(contact_history.days_since_last_contact as bigint) as days_since_last_contact
from snapshots
left join contact_history
    on snapshots.customer_id = contact_history.customer_id and snapshots.as_of_date = contact_history.as_of_date
