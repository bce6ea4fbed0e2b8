with

valid_rows as (
    {{- churn_radar.staged_rows('support_tickets') | indent(4) }}
)

select
    ticket_id,
    customer_id,
    opened_at,
    closed_at,
    topic,
    ticket_text,
    satisfaction
from valid_rows
