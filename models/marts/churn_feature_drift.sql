with

scored_values as (
    select * from {{ ref('int_scored_values') }}
),

-- without the score, whose drift is in churn_score_drift
reference as (
    select * from {{ ref('churn_drift_reference') }} where feature <> 'churn_probability'
),

features as (
    select
        as_of_date,
        model_version,
        feature,
        cast(sum(customers) as bigint) as customers,
        cast(coalesce(sum(case when value is null then customers end), 0) as bigint) as missing
    from scored_values
    group by as_of_date, model_version, feature
),

-- all bins of the reference, including those that are empty now
bins as (
    select
        features.as_of_date,
        reference.model_version,
        reference.feature,
        reference.bin,
        reference.is_missing,
        reference.is_read,
        reference.usual_psi,
        reference.customers as reference_customers,
        cast(reference.as_of_date as date) as reference_date,
        reference.share as share_then,
        features.customers,
        cast(coalesce(sum(scored_values.customers), 0) as double) / features.customers as share_now
    from features
    inner join reference on features.model_version = reference.model_version and features.feature = reference.feature
    left join scored_values
        on
            features.as_of_date = scored_values.as_of_date
            and features.model_version = scored_values.model_version
            and features.feature = scored_values.feature
            and {{ churn_radar.is_in_bin('scored_values.value', 'reference') }}
    group by
        features.as_of_date, features.customers, reference.model_version, reference.feature, reference.bin, reference.is_missing,
        reference.is_read, reference.usual_psi, reference.customers, reference.as_of_date, reference.share
),

measured as (
    select
        as_of_date,
        model_version,
        feature,
        {{ churn_radar.psi('share_now', 'share_then') }} as psi,
        count(case when share_now > 0 or share_then > 0 then 1 end) as bins_in_use,
        max(case when is_missing then share_then end) as reference_missing_rate,
        max(usual_psi) as usual_psi,
        max(customers) as customers,
        max(reference_customers) as reference_customers,
        max(reference_date) as reference_date,
        max(case when is_read then 1 else 0 end) = 1 as is_read
    from bins
    group by as_of_date, model_version, feature
),

assessed as (
    select
        *,
        {{ churn_radar.psi_critical_value('bins_in_use', 'customers', 'reference_customers') }} as psi_by_chance
    from measured
)

select
    features.as_of_date,
    features.model_version,
    features.feature,
    coalesce(assessed.is_read, false) as is_read,
    cast(assessed.psi as double) as psi,
    cast({{ churn_radar.psi_band('assessed.psi') }} as {{ churn_radar.type_string() }}) as band,
    cast(assessed.psi_by_chance as double) as psi_by_chance,
    cast(assessed.usual_psi as double) as usual_psi,
    {{ churn_radar.is_unusual('assessed.psi', 'assessed.psi_by_chance', 'assessed.usual_psi') }} as is_unusual,
    cast(features.missing as double) / features.customers as missing_rate,
    cast(assessed.reference_missing_rate as double) as reference_missing_rate,
    features.customers,
    cast(assessed.reference_customers as bigint) as reference_customers,
    assessed.reference_date
from features
left join assessed
    on
        features.as_of_date = assessed.as_of_date
        and features.model_version = assessed.model_version
        and features.feature = assessed.feature
