select
    'reviews:' || review_id as text_id,
    'reviews' as source_table,
    customer_id,
    reviewed_at as written_at,
    greatest(reviewed_at, coalesce(loaded_at, reviewed_at)) as known_at,
    review_text as text
from {{ ref('stg_reviews') }}
where review_text is not null

union all

select
    'support_tickets:' || ticket_id as text_id,
    'support_tickets' as source_table,
    customer_id,
    opened_at as written_at,
    opened_at as known_at,
    ticket_text as text
from {{ ref('stg_support_tickets') }}
where ticket_text is not null
