{%- set every = [var('churn__snapshot_every_days') | int, 1] | max -%}
{#- training snapshots are 28 days apart, rounded up to a multiple of the grid -#}
{%- set training_step = every * ((28 / every) | round(0, 'ceil') | int) -%}

with

order_days as (
    select
        min(case when status = 'completed' then activity_date end) as first_order_date,
        max(case when status = 'completed' then activity_date end) as last_order_date,
        -- clocks that are ahead say nothing of the rest of today
        least(max(arrived_date), {{ churn_radar.today() }}) as last_date
    from {{ ref('int_customer_orders') }}
    where {{ churn_radar.moves_newest_date('activity_date') }}
),

newest as (
    select
        *,
        {{ churn_radar.newest_as_of_date('last_order_date') }} as as_of_date
    from order_days
),

-- the last day with an order or an arrival may not be over, so that outcomes are known up to its beginning
observed as (
    select
        *,
        least(as_of_date, last_date) as observed_until
    from newest
),

days as (
    {{ churn_radar.days_from_to('(select first_order_date from observed)', '(select observed_until from observed)') }}
),

-- grid dates with a complete activity window before and a closed label window after
labelled as (
    select days.day as as_of_date
    from days
    cross join observed
    where
        {{ churn_radar.grid_day('days.day') }} = days.day
        and {{ churn_radar.add_days('observed.first_order_date', var('churn__activity_days')) }} <= days.day
        and {{ churn_radar.add_days('observed.as_of_date', '-' ~ var('churn__history_days')) }} <= days.day
        and {{ churn_radar.add_days('days.day', var('churn__horizon_days')) }} <= observed.observed_until
),

newest_labelled as (
    select max(as_of_date) as as_of_date from labelled
),

training as (
    select labelled.as_of_date
    from labelled
    cross join newest_labelled
    where {{ churn_radar.days_between('labelled.as_of_date', 'newest_labelled.as_of_date') }} % {{ training_step }} = 0
),

-- grid dates before randomised contacts, whose features are needed to estimate effects
contacts as (
    select distinct {{ churn_radar.grid_day('cast(touches.touched_at as date)') }} as as_of_date
    from {{ ref('stg_campaign_touches') }} as touches
    cross join observed
    where
        touches.propensity > 0
        and touches.propensity < 1
        and touches.touched_at < cast(observed.as_of_date as timestamp)
        and {{ churn_radar.grid_day('cast(touches.touched_at as date)') }} between
        {{ churn_radar.add_days('observed.first_order_date', 1) }} and observed.as_of_date
        and {{ churn_radar.grid_day('cast(touches.touched_at as date)') }}
        >= {{ churn_radar.add_days('observed.as_of_date', '-' ~ var('churn__history_days')) }}
),

-- the as-of dates of this build and of earlier ones
build_dates as (
    select as_of_date
    from observed
    {% if is_incremental() %}
    union distinct
    select built.as_of_date
    from {{ this }} as built
    cross join observed
    where
        built.was_asked
        -- a date that has not come yet was asked for by mistake
        and built.as_of_date <= greatest(observed.as_of_date, {{ churn_radar.add_days(churn_radar.today(), 1) }})
    {% endif %}
),

-- dates beyond all orders do not shorten how long others are kept
newest_build_date as (
    select max(build_dates.as_of_date) as as_of_date
    from build_dates
    cross join observed
    where build_dates.as_of_date <= greatest(observed.as_of_date, {{ churn_radar.add_days('observed.last_date', 1) }})
),

kept_build_dates as (
    select build_dates.as_of_date
    from build_dates
    cross join newest_build_date
    where build_dates.as_of_date > {{ churn_radar.add_days('newest_build_date.as_of_date', '-' ~ var('churn__keep_snapshots_days')) }}
),

all_dates as (
    select as_of_date from training
    union distinct
    select as_of_date from kept_build_dates
    union distinct
    select as_of_date from contacts
    union distinct
    select as_of_date from observed
    {%- if is_incremental() %}
    -- all flags of dates that are no longer needed become false, and the post-hook deletes them
    union distinct
    select as_of_date from {{ this }}
    {%- endif %}
)

select
    all_dates.as_of_date,
    all_dates.as_of_date = observed.as_of_date as is_newest,
    training.as_of_date is not null as is_training,
    contacts.as_of_date is not null as is_contact,
    kept_build_dates.as_of_date is not null or all_dates.as_of_date = observed.as_of_date as was_asked,
    observed.observed_until
from all_dates
cross join observed
left join training on all_dates.as_of_date = training.as_of_date
left join contacts on all_dates.as_of_date = contacts.as_of_date
left join kept_build_dates on all_dates.as_of_date = kept_build_dates.as_of_date
-- null in a shop without orders
where all_dates.as_of_date is not null
