with

valid_rows as (
    {{- churn_radar.staged_rows('customers') | indent(4) }}
)

select
    customer_id,
    signed_up_at{% for attribute in churn_radar.quoted_attributes('customers') %},
    {{ attribute }}{% endfor %}
from valid_rows
