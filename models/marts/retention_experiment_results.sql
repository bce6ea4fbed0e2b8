{%- set value_factor = var('churn__margin') ~ ' * ' ~ var('churn__value_days') ~ ' / ' ~ var('churn__horizon_days') -%}

with

contacts as (
    select
        *,
        1 / propensity as weight,
        {{ churn_radar.as_double("horizon_spend") }} * {{ value_factor }}
        - case when action = 'holdout' then 0 else coalesce(cost, 0) end as profit
    from {{ ref('int_contact_outcomes') }}
    where is_active and churned is not null and propensity > 0 and propensity < 1
),

scores as (
    select * from {{ ref('churn_scores') }}
),

newest_scores as (
    select
        contacts.touch_id,
        scores.risk_band,
        row_number() over (
            partition by contacts.touch_id order by scores.as_of_date desc, scores.scored_at desc
        ) as newest
    from contacts
    inner join scores
        on
            contacts.customer_id = scores.customer_id
            and cast(contacts.touched_at as date) >= scores.as_of_date
            and {{ churn_radar.add_days('cast(contacts.touched_at as date)', -28) }} < scores.as_of_date
),

grouped_contacts as (
    select
        contacts.*,
        'all' as segment
    from contacts
    union all
    select
        contacts.*,
        newest_scores.risk_band as segment
    from contacts
    inner join newest_scores on contacts.touch_id = newest_scores.touch_id and newest_scores.newest = 1
),

compared_contacts as (
    select
        campaign_id as compared_campaign,
        *
    from grouped_contacts
    union all
    select
        'all' as compared_campaign,
        *
    from grouped_contacts
),

holdouts as (
    select distinct
        campaign_id,
        segment
    from grouped_contacts
    where action = 'holdout'
),

means as (
    select
        compared_contacts.compared_campaign as campaign_id,
        compared_contacts.segment,
        compared_contacts.action,
        count(*) as customers,
        sum(compared_contacts.weight) as weight,
        sum(compared_contacts.weight * compared_contacts.churned) / sum(compared_contacts.weight) as churn_rate,
        sum(compared_contacts.weight * compared_contacts.profit) / sum(compared_contacts.weight) as profit,
        max(compared_contacts.window_ends_on) as through_date
    from compared_contacts
    inner join holdouts
        on compared_contacts.campaign_id = holdouts.campaign_id and compared_contacts.segment = holdouts.segment
    group by compared_contacts.compared_campaign, compared_contacts.segment, compared_contacts.action
),

arms as (
    select
        means.campaign_id,
        means.segment,
        means.action,
        means.customers,
        means.churn_rate,
        means.profit,
        means.through_date,
        -- linearised variance of a mean with normalised weights (Hajek 1971)
        sum(power(compared_contacts.weight * (compared_contacts.churned - means.churn_rate), 2)) / power(means.weight, 2)
            as churn_variance,
        sum(power(compared_contacts.weight * (compared_contacts.profit - means.profit), 2)) / power(means.weight, 2)
            as profit_variance
    from means
    inner join compared_contacts
        on
            means.campaign_id = compared_contacts.compared_campaign
            and means.segment = compared_contacts.segment
            and means.action = compared_contacts.action
    inner join holdouts
        on compared_contacts.campaign_id = holdouts.campaign_id and compared_contacts.segment = holdouts.segment
    group by
        means.campaign_id, means.segment, means.action, means.customers, means.weight, means.churn_rate, means.profit,
        means.through_date
),

compared as (
    select
        contacted.action,
        contacted.campaign_id,
        contacted.segment,
        contacted.customers as contacts,
        held_out.customers as holdouts,
        contacted.churn_rate as churn_rate_contacted,
        held_out.churn_rate as churn_rate_holdout,
        held_out.churn_rate - contacted.churn_rate as effect,
        1.96 * sqrt(contacted.churn_variance + held_out.churn_variance) as effect_margin,
        contacted.profit - held_out.profit as profit_per_contact,
        1.96 * sqrt(contacted.profit_variance + held_out.profit_variance) as profit_margin,
        greatest(contacted.through_date, held_out.through_date) as through_date
    from arms as contacted
    inner join arms as held_out
        on contacted.campaign_id = held_out.campaign_id and contacted.segment = held_out.segment
    where
        contacted.action != 'holdout'
        and held_out.action = 'holdout'
        and least(contacted.customers, held_out.customers) >= {{ var('churn__min_group') }}
)

select
    {{ churn_radar.as_text('action') }} as action,
    {{ churn_radar.as_text('campaign_id') }} as campaign_id,
    {{ churn_radar.as_text('segment') }} as segment,
    cast(contacts as bigint) as contacts,
    cast(holdouts as bigint) as holdouts,
    cast(churn_rate_contacted as double) as churn_rate_contacted,
    cast(churn_rate_holdout as double) as churn_rate_holdout,
    cast(effect as double) as effect,
    cast(effect - effect_margin as double) as effect_low,
    cast(effect + effect_margin as double) as effect_high,
    cast(profit_per_contact as double) as profit_per_contact,
    cast(profit_per_contact - profit_margin as double) as profit_low,
    cast(profit_per_contact + profit_margin as double) as profit_high,
    through_date
from compared
