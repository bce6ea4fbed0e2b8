with

reviews as (
    select
        review_id,
        customer_id,
        loaded_at,
        md5(
            {{ churn_radar.as_text('reviewed_at') }} || ' ' || coalesce(review_text, '') || ' ' || coalesce(product_id, '')
            || ' ' || coalesce({{ churn_radar.as_text('rating') }}, '')
        ) as content_hash
    from {{ ref('stg_reviews') }}
    where version = 1 and loaded_at is not null
)

select reviews.*
from reviews
{% if is_incremental() -%}
left join {{ this }} as before on reviews.review_id = before.review_id
where before.review_id is null or before.content_hash <> reviews.content_hash or before.loaded_at > reviews.loaded_at
{%- endif %}
