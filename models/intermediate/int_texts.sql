select
    {{ churn_radar.review_text_id('reviews') }} as text_id,
    'reviews' as source_table,
    reviews.customer_id,
    reviews.reviewed_at as written_at,
    greatest(reviews.reviewed_at, coalesce(reviews.loaded_at, reviews.reviewed_at)) as known_at,
    reviews.superseded_at,
    reviews.review_text as text,
    reviews.rating,
    -- only if the name was known when the review was written
    case when products.known_at <= reviews.reviewed_at then products.product_name end as subject
from {{ ref('int_reviews') }} as reviews
left join {{ ref('int_products') }} as products on reviews.product_id = products.product_id
where trim(reviews.review_text) <> ''

union all

select
    'support_tickets:' || ticket_id as text_id,
    'support_tickets' as source_table,
    customer_id,
    opened_at as written_at,
    opened_at as known_at,
    cast(null as timestamp) as superseded_at,
    ticket_text as text,
    cast(null as double) as rating,
    topic as subject
from {{ ref('stg_support_tickets') }}
where trim(ticket_text) <> ''
