{%- set double = churn_radar.type_double() -%}

select
    cast(customer_id as {{ churn_radar.type_string() }}) as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(rank as integer) as rank,
    cast(product_id as {{ churn_radar.type_string() }}) as product_id,
    cast(product_name as {{ churn_radar.type_string() }}) as product_name,
    cast(score as {{ double }}) as score,
    cast(source as {{ churn_radar.type_string() }}) as source,
    cast(reason as {{ churn_radar.type_string() }}) as reason
from {{ ref('recommendation_candidates') }}
