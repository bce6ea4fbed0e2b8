{%- set double = churn_radar.type_double() -%}

select
    cast(customer_id as varchar) as customer_id,
    cast(as_of_date as date) as as_of_date,
    cast(rank as integer) as rank,
    cast(product_id as varchar) as product_id,
    cast(product_name as varchar) as product_name,
    cast(score as {{ double }}) as score,
    cast(source as varchar) as source,
    cast(reason as varchar) as reason
from {{ ref('recommendation_candidates') }}
