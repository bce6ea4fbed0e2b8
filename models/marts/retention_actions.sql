with

choices as (
    select * from {{ ref('retention_choices') }}
)

select
    {{ churn_radar.as_text('customer_id') }} as customer_id,
    cast(as_of_date as date) as as_of_date,
    {{ churn_radar.as_text('campaign_id') }} as campaign_id,
    {{ churn_radar.as_text('action') }} as action,
    {{ churn_radar.as_text('intended_action') }} as intended_action,
    cast(is_holdout as boolean) as is_holdout,
    cast(is_exploration as boolean) as is_exploration,
    {{ churn_radar.as_text('channel') }} as channel,
    cast(churn_probability as double) as churn_probability,
    cast(value as double) as value,
    cast(effect as double) as effect,
    {{ churn_radar.as_text('effect_source') }} as effect_source,
    cast(expected_profit as double) as expected_profit,
    cast(expected_profit_low as double) as expected_profit_low,
    cast(expected_profit_high as double) as expected_profit_high,
    cast(contact_cost as double) as contact_cost,
    cast(assignment_probability as double) as assignment_probability,
    {{ churn_radar.as_text('reason') }} as reason,
    {{ churn_radar.as_text('model_version') }} as model_version
from choices
