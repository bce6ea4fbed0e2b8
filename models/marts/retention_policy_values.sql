with

estimates as (
    select * from {{ ref('retention_policy_estimates') }}
)

select
    {{ churn_radar.as_text('policy') }} as policy,
    cast(customers as bigint) as customers,
    cast(matches as bigint) as matches,
    cast(effective as double) as effective,
    cast(case when matches > 0 then value end as double) as value,
    cast(case when matches > 0 then gain end as double) as gain,
    cast(case when matches > 0 then gain_low end as double) as gain_low,
    cast(case when matches > 0 then gain_high end as double) as gain_high,
    cast(qini as double) as qini,
    cast(through_date as date) as through_date
from estimates
