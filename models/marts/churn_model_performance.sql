{#- machine epsilon, at which scikit-learn's log_loss clips -#}
{%- set epsilon = '2.220446049250313e-16' -%}

with

scores as (
    select * from {{ ref('churn_scores') }}
),

orders as (
    select * from {{ ref('int_customer_orders') }}
),

-- one row per version: a version that became champion again has several decisions with the same validation figures
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
    select observed_until from {{ ref('int_snapshot_dates') }} where is_newest
),

-- deleted customers have no known outcome
known_customers as (
    select distinct customer_id from orders
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

-- outcomes as in churn_labels
ordered_again as (
    select
        closed_scores.customer_id,
        closed_scores.as_of_date,
        closed_scores.model_version
    from closed_scores
    inner join orders
        on
            closed_scores.customer_id = orders.customer_id
            and closed_scores.as_of_date <= orders.activity_date
            and closed_scores.window_ends_on > orders.activity_date
            and {{ churn_radar.known_now('orders') }}
    where orders.status = 'completed'
    group by closed_scores.customer_id, closed_scores.as_of_date, closed_scores.model_version
),

outcomes as (
    select
        closed_scores.as_of_date,
        closed_scores.model_version,
        closed_scores.horizon_days,
        closed_scores.churn_probability as p,
        case when ordered_again.customer_id is null then 1 else 0 end as churned,
        least(greatest(closed_scores.churn_probability, {{ epsilon }}), 1 - {{ epsilon }}) as clipped_p,
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
        avg(cast(churned as double)) as churn_rate,
        avg(p) as mean_probability,
        avg(case when churned = 1 then -ln(clipped_p) else -ln(1 - clipped_p) end) as log_loss,
        -- a tenth of the customers, at least one, rounded half to even
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
                    then cast(churned as double)
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

-- grouped by probability, as ties share a rank
ranks as (
    select
        as_of_date,
        model_version,
        p,
        cast(sum(churned) as double) as churned_customers,
        cast(sum(1 - churned) as double) as retained
    from outcomes
    group by as_of_date, model_version, p
),

cumulative as (
    select
        *,
        sum(churned_customers) over (partition by as_of_date, model_version) as all_churned,
        sum(retained) over (partition by as_of_date, model_version) as all_retained,
        sum(churned_customers) over (partition by as_of_date, model_version order by p) as churned_up_to,
        sum(retained) over (partition by as_of_date, model_version order by p) as retained_up_to
    from ranks
),

-- share of retained customers below and of churned customers above each probability; ties count half
rank_shares as (
    select
        *,
        (retained_up_to - retained / 2) / nullif(all_retained, 0) as retained_below,
        (all_churned - churned_up_to + churned_customers / 2) / nullif(all_churned, 0) as churned_above
    from cumulative
),

areas as (
    select
        *,
        sum(churned_customers * retained_below) over (partition by as_of_date, model_version) / nullif(all_churned, 0) as auroc
    from rank_shares
),

-- DeLong's variance, as in inference/evaluation/metrics.py
intervals as (
    select
        as_of_date,
        model_version,
        max(auroc) as auroc,
        1.959963984540054 * sqrt(
            case
                when max(all_churned) > 1 and max(all_retained) > 1
                    then
                        sum(churned_customers * power(retained_below - auroc, 2)) / ((max(all_churned) - 1) * max(all_churned))
                        + sum(retained * power(churned_above - auroc, 2)) / ((max(all_retained) - 1) * max(all_retained))
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
    cast(intervals.auroc as double) as auroc,
    cast(case when intervals.half_width >= 0 then greatest(intervals.auroc - intervals.half_width, 0) end as double) as auroc_low,
    cast(case when intervals.half_width >= 0 then least(intervals.auroc + intervals.half_width, 1) end as double) as auroc_high,
    figures.log_loss,
    cast(calibration.gaps / figures.customers as double) as ece,
    figures.top_decile_churn_rate / nullif(figures.churn_rate, 0) as top_decile_lift,
    cast(models.validation_auroc as double) as promised_auroc,
    cast(models.validation_log_loss as double) as promised_log_loss,
    cast(models.validation_ece as double) as promised_ece,
    cast(models.validation_auroc - intervals.auroc as double) as auroc_below_promise,
    coalesce(
        intervals.auroc + intervals.half_width < models.validation_auroc - {{ var('churn__auroc_drop_limit') }}, false
    ) as breaks_promise
from figures
inner join calibration on figures.as_of_date = calibration.as_of_date and figures.model_version = calibration.model_version
inner join intervals on figures.as_of_date = intervals.as_of_date and figures.model_version = intervals.model_version
left join models on figures.model_version = models.model_version
