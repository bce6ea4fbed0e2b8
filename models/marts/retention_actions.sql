{%- set double = churn_radar.type_double() -%}

with

choices as (
    select * from {{ ref('retention_choices') }}
)

select
    cast(customer_id as {{ churn_radar.type_string() }}) as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(campaign_id as {{ churn_radar.type_string() }}) as campaign_id,
    cast(action as {{ churn_radar.type_string() }}) as action,
    cast(intended_action as {{ churn_radar.type_string() }}) as intended_action,
    cast(is_holdout as boolean) as is_holdout,
    cast(is_exploration as boolean) as is_exploration,
    cast(channel as {{ churn_radar.type_string() }}) as channel,
    cast(churn_probability as {{ double }}) as churn_probability,
    cast(value as {{ double }}) as value,
    cast(effect as {{ double }}) as effect,
    cast(effect_source as {{ churn_radar.type_string() }}) as effect_source,
    cast(expected_profit as {{ double }}) as expected_profit,
    cast(expected_profit_low as {{ double }}) as expected_profit_low,
    cast(expected_profit_high as {{ double }}) as expected_profit_high,
    cast(contact_cost as {{ double }}) as contact_cost,
    cast(assignment_probability as {{ double }}) as assignment_probability,
    cast(reason as {{ churn_radar.type_string() }}) as reason,
    cast(model_version as {{ churn_radar.type_string() }}) as model_version
from choices
