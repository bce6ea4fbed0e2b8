{#- as the log-loss of scikit-learn clips: the distance of doubles at 1 -#}
{%- set least = '2.220446049250313e-16' -%}
{%- set double = churn_radar.type_double() -%}

with

scores as (
    select * from {{ ref('churn_scores') }}
),

activity as (
    select * from {{ ref('int_customer_daily_activity') }}
),

-- a version that champions returned to has a row per decision, with the same promise
models as (
    select
        model_version,
        max(validation_auroc) as validation_auroc,
        max(validation_log_loss) as validation_log_loss,
        max(validation_ece) as validation_ece
    from {{ ref('churn_model') }}
    group by model_version
),

observed as (
    select as_of_date as observed_until from {{ ref('int_snapshot_dates') }} where is_newest
),

-- of customers who were deleted nobody knows whether they churned
known_customers as (
    select customer_id from activity group by customer_id
),

closed_scores as (
    select
        scores.customer_id,
        scores.as_of_date,
        scores.model_version,
        scores.horizon_days,
        scores.churn_probability,
        {{ churn_radar.add_days('scores.as_of_date', 'scores.horizon_days') }} as window_ends_on
    from scores
    inner join known_customers on scores.customer_id = known_customers.customer_id
    cross join observed
    where {{ churn_radar.add_days('scores.as_of_date', 'scores.horizon_days') }} <= observed.observed_until
),

-- an outcome as churn_labels has it
ordered_again as (
    select
        closed_scores.customer_id,
        closed_scores.as_of_date,
        closed_scores.model_version
    from closed_scores
    inner join activity
        on
            closed_scores.customer_id = activity.customer_id
            and closed_scores.as_of_date <= activity.activity_date
            and closed_scores.window_ends_on > activity.activity_date
            and {{ churn_radar.known_now('activity') }}
    where activity.orders > 0
    group by closed_scores.customer_id, closed_scores.as_of_date, closed_scores.model_version
),

outcomes as (
    select
        closed_scores.as_of_date,
        closed_scores.model_version,
        closed_scores.horizon_days,
        closed_scores.churn_probability as p,
        case when ordered_again.customer_id is null then 1 else 0 end as churned,
        least(greatest(closed_scores.churn_probability, {{ least }}), 1 - {{ least }}) as clipped_p,
        least(floor(closed_scores.churn_probability * 10), 9) as tenth,
        count(*) over (partition by closed_scores.as_of_date, closed_scores.model_version) as customers,
        row_number() over (
            partition by closed_scores.as_of_date, closed_scores.model_version
            order by closed_scores.churn_probability desc, closed_scores.customer_id asc
        ) as position
    from closed_scores
    left join ordered_again
        on
            closed_scores.customer_id = ordered_again.customer_id
            and closed_scores.as_of_date = ordered_again.as_of_date
            and closed_scores.model_version = ordered_again.model_version
),

figures as (
    select
        as_of_date,
        model_version,
        max(horizon_days) as horizon_days,
        count(*) as customers,
        avg(cast(churned as {{ double }})) as churn_rate,
        avg(p) as mean_probability,
        avg(case when churned = 1 then -ln(clipped_p) else -ln(1 - clipped_p) end) as log_loss,
        -- a tenth of the customers, at least one, halves rounded to even
        avg(
            case
                when
                    position <= greatest(
                        1, floor(customers / 10.0)
                        + case
                            when customers % 10 > 5 or (customers % 10 = 5 and floor(customers / 10.0) % 2 = 1) then 1
                            else 0
                        end
                    )
                    then cast(churned as {{ double }})
            end
        ) as top_decile_churn_rate
    from outcomes
    group by as_of_date, model_version
),

calibration_gaps as (
    select
        as_of_date,
        model_version,
        tenth,
        abs(sum(p - churned)) as gap
    from outcomes
    group by as_of_date, model_version, tenth
),

calibration as (
    select
        as_of_date,
        model_version,
        sum(gap) as gaps
    from calibration_gaps
    group by as_of_date, model_version
),

-- customers who share a probability share a rank
ranks as (
    select
        as_of_date,
        model_version,
        p,
        cast(sum(churned) as {{ double }}) as churners,
        cast(sum(1 - churned) as {{ double }}) as stayers
    from outcomes
    group by as_of_date, model_version, p
),

running as (
    select
        *,
        sum(churners) over (partition by as_of_date, model_version) as all_churners,
        sum(stayers) over (partition by as_of_date, model_version) as all_stayers,
        sum(churners) over (partition by as_of_date, model_version order by p) as churners_up_to,
        sum(stayers) over (partition by as_of_date, model_version order by p) as stayers_up_to
    from ranks
),

-- the share of stayers below each churner, and of churners above each stayer; a tie counts half
placed as (
    select
        *,
        (stayers_up_to - stayers / 2) / nullif(all_stayers, 0) as stayers_below,
        (all_churners - churners_up_to + churners / 2) / nullif(all_churners, 0) as churners_above
    from running
),

areas as (
    select
        *,
        sum(churners * stayers_below) over (partition by as_of_date, model_version) / nullif(all_churners, 0) as auroc
    from placed
),

-- DeLong's variance, as in inference/evaluation/metrics.py
intervals as (
    select
        as_of_date,
        model_version,
        max(auroc) as auroc,
        1.959963984540054 * sqrt(
            case
                when max(all_churners) > 1 and max(all_stayers) > 1
                    then
                        sum(churners * power(stayers_below - auroc, 2)) / ((max(all_churners) - 1) * max(all_churners))
                        + sum(stayers * power(churners_above - auroc, 2)) / ((max(all_stayers) - 1) * max(all_stayers))
            end
        ) as half_width
    from areas
    group by as_of_date, model_version
)

select
    figures.as_of_date,
    figures.model_version,
    cast(figures.horizon_days as integer) as horizon_days,
    cast(figures.customers as bigint) as customers,
    figures.churn_rate,
    figures.mean_probability,
    cast(intervals.auroc as {{ double }}) as auroc,
    cast(case when intervals.half_width >= 0 then greatest(intervals.auroc - intervals.half_width, 0) end as {{ double }}) as auroc_low,
    cast(case when intervals.half_width >= 0 then least(intervals.auroc + intervals.half_width, 1) end as {{ double }}) as auroc_high,
    figures.log_loss,
    cast(calibration.gaps / figures.customers as {{ double }}) as ece,
    figures.top_decile_churn_rate / nullif(figures.churn_rate, 0) as top_decile_lift,
    cast(models.validation_auroc as {{ double }}) as promised_auroc,
    cast(models.validation_log_loss as {{ double }}) as promised_log_loss,
    cast(models.validation_ece as {{ double }}) as promised_ece,
    cast(models.validation_auroc - intervals.auroc as {{ double }}) as auroc_below_promise,
    coalesce(
        intervals.auroc + intervals.half_width < models.validation_auroc - {{ var('churn__auroc_drop_limit') }}, false
    ) as breaks_promise
from figures
inner join calibration on figures.as_of_date = calibration.as_of_date and figures.model_version = calibration.model_version
inner join intervals on figures.as_of_date = intervals.as_of_date and figures.model_version = intervals.model_version
left join models on figures.model_version = models.model_version
