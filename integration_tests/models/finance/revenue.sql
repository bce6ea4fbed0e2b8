select
    date_trunc('month', placed_at) as month_start,
    sum(paid) as revenue
from {{ ref('fct_orders') }}
where state in (select state from {{ ref('paid_states') }})
group by 1
