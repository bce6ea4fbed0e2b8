select
    reviews.review_id,
    reviews.customer_id,
    reviews.review_text,
    reviews.reviewed_at,
    reviews.product_id,
    reviews.rating,
    -- a version that follows another has a row of its own, which is not overwritten
    case
        when reviews.version = 1 and arrivals.loaded_at < reviews.loaded_at then arrivals.loaded_at
        else reviews.loaded_at
    end as loaded_at,
    reviews.version,
    reviews.superseded_at
from {{ ref('stg_reviews') }} as reviews
left join {{ ref('int_review_arrivals') }} as arrivals on reviews.review_id = arrivals.review_id
