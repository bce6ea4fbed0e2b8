{#- outside the is_incremental() block, so that dbt finds the ref when it parses -#}
{%- set dates = ref('int_snapshot_dates') -%}

with

scores as (
    select
        as_of_date,
        model_version,
        churn_probability,
        risk_band
    from {{ ref('churn_scores') }}
    {%- if is_incremental() %}
    where
        as_of_date = (select dates.as_of_date from {{ dates }} as dates where dates.is_newest)
        or as_of_date not in (select built.as_of_date from {{ this }} as built)
    {%- endif %}
),

reference as (
    select * from {{ ref('churn_drift_reference') }} where feature = 'churn_probability'
),

snapshots as (
    select
        as_of_date,
        model_version,
        count(*) as customers,
        avg(churn_probability) as mean_probability,
        percentile_cont(0.5) within group (order by churn_probability) as median_probability,
        avg(case when risk_band = 'low' then 1e0 else 0e0 end) as low_share,
        avg(case when risk_band = 'medium' then 1e0 else 0e0 end) as medium_share,
        avg(case when risk_band = 'high' then 1e0 else 0e0 end) as high_share,
        avg(case when risk_band = 'critical' then 1e0 else 0e0 end) as critical_share
    from scores
    group by as_of_date, model_version
),

-- all bins of the reference, including those that are empty now
bins as (
    select
        snapshots.as_of_date,
        reference.model_version,
        reference.bin,
        reference.usual_psi,
        reference.customers as reference_customers,
        cast(reference.as_of_date as date) as reference_date,
        reference.share as share_then,
        snapshots.customers,
        cast(count(scores.churn_probability) as double) / snapshots.customers as share_now
    from snapshots
    inner join reference on snapshots.model_version = reference.model_version
    left join scores
        on
            snapshots.as_of_date = scores.as_of_date
            and snapshots.model_version = scores.model_version
            and {{ churn_radar.is_in_bin('scores.churn_probability', 'reference') }}
    group by
        snapshots.as_of_date, snapshots.customers, reference.model_version, reference.bin, reference.usual_psi,
        reference.customers, reference.as_of_date, reference.share
),

measured as (
    select
        as_of_date,
        model_version,
        {{ churn_radar.psi('share_now', 'share_then') }} as psi,
        count(case when share_now > 0 or share_then > 0 then 1 end) as bins_in_use,
        max(usual_psi) as usual_psi,
        max(customers) as customers,
        max(reference_customers) as reference_customers,
        max(reference_date) as reference_date
    from bins
    group by as_of_date, model_version
),

assessed as (
    select
        *,
        {{ churn_radar.psi_critical_value('bins_in_use', 'customers', 'reference_customers') }} as psi_by_chance
    from measured
)

select
    snapshots.as_of_date,
    snapshots.model_version,
    cast(snapshots.customers as bigint) as customers,
    cast(snapshots.mean_probability as double) as mean_probability,
    cast(snapshots.median_probability as double) as median_probability,
    cast(snapshots.low_share as double) as low_share,
    cast(snapshots.medium_share as double) as medium_share,
    cast(snapshots.high_share as double) as high_share,
    cast(snapshots.critical_share as double) as critical_share,
    cast(assessed.psi as double) as psi,
    cast({{ churn_radar.psi_band('assessed.psi') }} as {{ churn_radar.type_string() }}) as band,
    cast(assessed.psi_by_chance as double) as psi_by_chance,
    cast(assessed.usual_psi as double) as usual_psi,
    {{ churn_radar.is_unusual('assessed.psi', 'assessed.psi_by_chance', 'assessed.usual_psi') }} as is_unusual,
    cast(assessed.reference_customers as bigint) as reference_customers,
    assessed.reference_date
from snapshots
left join assessed on snapshots.as_of_date = assessed.as_of_date and snapshots.model_version = assessed.model_version
