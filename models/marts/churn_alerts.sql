{%- set band = var('churn__alert_band') -%}
{%- set threshold = var('churn__band_' ~ band) -%}
{#- one-sided significance level of 0.001 for the four segments together (Bonferroni): normal quantile of 1 - 0.001 / 4 -#}
{%- set min_z = 3.4807564 -%}
{#- minimum rise of the mean, as in a large shop even tiny changes are significant -#}
{%- set min_rise = 0.01 -%}

with

scores as (
    select * from {{ ref('churn_scores') }}
),

order_features as (
    select * from {{ ref('order_features') }}
),

score_drift as (
    select * from {{ ref('churn_score_drift') }}
),

feature_drift as (
    select * from {{ ref('churn_feature_drift') }}
),

scored_dates as (
    select as_of_date from scores group by as_of_date
),

dates as (
    select
        as_of_date,
        lag(as_of_date) over (order by as_of_date) as previous_date,
        row_number() over (order by as_of_date desc) as age
    from scored_dates
),

newest as (
    select * from dates where age = 1
),

-- a date may be scored again by another model version; the last score is used
ranked as (
    select
        scores.*,
        newest.as_of_date = scores.as_of_date as is_newest,
        row_number() over (
            partition by scores.customer_id, scores.as_of_date order by scores.scored_at desc, scores.model_version desc
        ) as position
    from scores
    inner join newest on scores.as_of_date in (newest.as_of_date, newest.previous_date)
),

last_scores as (
    select * from ranked where position = 1
),

version_by_date as (
    select
        dates_and_versions.as_of_date,
        dates_and_versions.model_version
    from (
        select
            as_of_date,
            model_version,
            row_number() over (partition by as_of_date order by max(scored_at) desc, model_version desc) as position
        from last_scores
        group by as_of_date, model_version
    ) as dates_and_versions
    where dates_and_versions.position = 1
),

comparison as (
    select
        newest.as_of_date,
        newest.previous_date,
        now.model_version,
        case when now.model_version <> before.model_version then ', by another version of the model' else '' end as version_note
    from newest
    inner join version_by_date as now on newest.as_of_date = now.as_of_date
    left join version_by_date as before on newest.previous_date = before.as_of_date
),

customer_alerts as (
    select
        now.as_of_date,
        'customer_risk' as kind,
        case when now.churn_probability >= {{ var('churn__band_critical') }} then 'critical' else 'high' end as severity,
        now.customer_id,
        {{ churn_radar.as_text('null') }} as subject,
        before.churn_probability as previous_value,
        now.churn_probability as current_value,
        now.value_at_risk,
        'Risk rose from ' || {{ churn_radar.as_percent('before.churn_probability') }} || ' to '
        || {{ churn_radar.as_percent('now.churn_probability') }} || ' since ' || {{ churn_radar.as_text('before.as_of_date') }}
        || comparison.version_note || '; ' || {{ churn_radar.as_decimal('now.value_at_risk') }} || ' at risk' as message,
        now.as_of_date as holds_from
    from last_scores as now
    inner join last_scores as before on now.customer_id = before.customer_id
    cross join comparison
    where
        now.is_newest
        and not before.is_newest
        and before.churn_probability < {{ threshold }}
        and now.churn_probability >= {{ threshold }}
),

scored_customers as (
    select
        last_scores.as_of_date,
        last_scores.is_newest,
        last_scores.churn_probability,
        last_scores.value_at_risk,
        order_features.days_since_first_order,
        order_features.spend_365d
    from last_scores
    inner join order_features
        on last_scores.customer_id = order_features.customer_id and last_scores.as_of_date = order_features.as_of_date
),

median_spends as (
    select
        as_of_date,
        percentile_cont(0.5) within group (order by spend_365d) as median_spend
    from scored_customers
    group by as_of_date
),

segmented as (
    select
        scored_customers.*,
        case when scored_customers.days_since_first_order <= {{ var('churn__activity_days') }} then 'new' else 'established' end
        || ', ' || case when scored_customers.spend_365d > median_spends.median_spend then 'high spend' else 'low spend' end as segment
    from scored_customers
    inner join median_spends on scored_customers.as_of_date = median_spends.as_of_date
),

segments as (
    select
        as_of_date,
        is_newest,
        segment,
        count(*) as customers,
        avg(churn_probability) as mean_risk,
        var_samp(churn_probability) as variance,
        cast(sum({{ churn_radar.fixed_point('value_at_risk', 28) }}) as double) as value_at_risk
    from segmented
    group by as_of_date, is_newest, segment
    -- smaller groups could reveal single customers
    having count(*) >= {{ var('churn__min_group') }}
),

-- Welch's z of two means. Most customers are in both samples, and treating the samples as independent overstates the
-- variance, so the test is conservative
compared_segments as (
    select
        now.*,
        before.as_of_date as previous_date,
        before.mean_risk as previous_risk,
        (now.mean_risk - before.mean_risk)
        / nullif(sqrt(now.variance / now.customers + before.variance / before.customers), 0) as z
    from segments as now
    inner join segments as before on now.segment = before.segment
    where now.is_newest and not before.is_newest
),

segment_alerts as (
    select
        compared_segments.as_of_date,
        'segment_risk' as kind,
        'high' as severity,
        {{ churn_radar.as_text('null') }} as customer_id,
        compared_segments.segment as subject,
        compared_segments.previous_risk as previous_value,
        compared_segments.mean_risk as current_value,
        compared_segments.value_at_risk,
        'Mean risk of ' || {{ churn_radar.as_text('compared_segments.customers') }} || ' customers rose from '
        || {{ churn_radar.as_percent('compared_segments.previous_risk') }} || ' to '
        || {{ churn_radar.as_percent('compared_segments.mean_risk') }} || ' since '
        || {{ churn_radar.as_text('compared_segments.previous_date') }} || comparison.version_note || '; '
        || {{ churn_radar.as_decimal('compared_segments.value_at_risk') }} || ' at risk' as message,
        compared_segments.as_of_date as holds_from
    from compared_segments
    cross join comparison
    where
        compared_segments.z > {{ min_z }}
        and compared_segments.mean_risk - compared_segments.previous_risk >= {{ min_rise }}
),

-- only new drift: continuing drift was an alert at an earlier date
score_drift_alerts as (
    select
        now.as_of_date,
        'score_drift' as kind,
        'high' as severity,
        {{ churn_radar.as_text('null') }} as customer_id,
        {{ churn_radar.as_text('null') }} as subject,
        before.psi as previous_value,
        now.psi as current_value,
        cast(null as double) as value_at_risk,
        'The scores drifted from those of the validation: population stability index '
        || {{ churn_radar.as_decimal('now.psi') }} as message,
        now.as_of_date as holds_from
    from comparison
    inner join score_drift as now
        on comparison.as_of_date = now.as_of_date and comparison.model_version = now.model_version
    left join score_drift as before
        on comparison.previous_date = before.as_of_date and comparison.model_version = before.model_version
    where now.is_unusual and not coalesce(before.is_unusual, false)
),

feature_drift_alerts as (
    select
        now.as_of_date,
        'feature_drift' as kind,
        'high' as severity,
        {{ churn_radar.as_text('null') }} as customer_id,
        now.feature as subject,
        before.psi as previous_value,
        now.psi as current_value,
        cast(null as double) as value_at_risk,
        'The feature drifted from the training data: population stability index '
        || {{ churn_radar.as_decimal('now.psi') }} as message,
        now.as_of_date as holds_from
    from comparison
    inner join feature_drift as now
        on comparison.as_of_date = now.as_of_date and comparison.model_version = now.model_version
    left join feature_drift as before
        on
            comparison.previous_date = before.as_of_date
            and comparison.model_version = before.model_version
            and now.feature = before.feature
    where now.is_unusual and now.is_read and not coalesce(before.is_unusual, false)
),

-- stored in advance with the day from which the scores are stale, as the table is not built on that day if builds stop
stale_alerts as (
    select
        as_of_date,
        'stale_scores' as kind,
        'critical' as severity,
        {{ churn_radar.as_text('null') }} as customer_id,
        {{ churn_radar.as_text('null') }} as subject,
        cast(null as double) as previous_value,
        cast(null as double) as current_value,
        cast(null as double) as value_at_risk,
        'The newest scores are of ' || {{ churn_radar.as_text('as_of_date') }}
        || ' and older than {{ var("churn__stale_days") }} days' as message,
        {{ churn_radar.add_days('as_of_date', var('churn__stale_days') ~ ' + 1') }} as holds_from
    from newest
),

alerts as (
    select * from customer_alerts
    union all
    select * from segment_alerts
    union all
    select * from score_drift_alerts
    union all
    select * from feature_drift_alerts
    union all
    select * from stale_alerts
)

select
    md5(kind || ':' || coalesce(customer_id, subject, '') || ':' || {{ churn_radar.as_text('as_of_date') }}) as alert_id,
    as_of_date,
    {{ churn_radar.as_text('kind') }} as kind,
    {{ churn_radar.as_text('severity') }} as severity,
    customer_id,
    subject,
    cast(previous_value as double) as previous_value,
    cast(current_value as double) as current_value,
    cast(value_at_risk as double) as value_at_risk,
    {{ churn_radar.as_text('message') }} as message,
    cast(holds_from as date) as holds_from
from alerts
