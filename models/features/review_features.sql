{%- set zero = churn_radar.zero_if_present('reviews') -%}

with

snapshots as (
    select * from {{ ref('int_customer_snapshots') }}
),

reviews as (
    select * from {{ ref('stg_reviews') }}
),

known_reviews as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        {{ churn_radar.exact('reviews.rating') }} as rating,
        {{ churn_radar.days_between('cast(reviews.reviewed_at as date)', 'snapshots.as_of_date') }} as days_ago,
        row_number() over (
            partition by snapshots.customer_id, snapshots.as_of_date
            order by reviews.reviewed_at desc, reviews.review_id desc
        ) as recency_rank
    from snapshots
    inner join reviews
        on
            snapshots.customer_id = reviews.customer_id
            and cast(snapshots.as_of_date as timestamp) > reviews.reviewed_at
            and cast(snapshots.as_of_date as timestamp) > coalesce(reviews.loaded_at, reviews.reviewed_at)
            and {{ churn_radar.add_days('snapshots.as_of_date', -var('churn__history_days')) }} <= cast(reviews.reviewed_at as date)
),

review_history as (
    select
        customer_id,
        as_of_date,
        count(*) as reviews_total,
        count(case when days_ago <= 90 then 1 end) as reviews_90d,
        avg(rating) as rating_mean,
        max(case when recency_rank = 1 then rating end) as rating_last,
        avg(case when recency_rank > 1 then rating end) as rating_mean_before,
        min(days_ago) as days_since_last_review
    from known_reviews
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(coalesce(review_history.reviews_total, {{ zero }}) as bigint) as reviews_total,
    cast(coalesce(review_history.reviews_90d, {{ zero }}) as bigint) as reviews_90d,
    cast(review_history.rating_mean as double) as rating_mean,
    cast(review_history.rating_last as double) as rating_last,
    cast(review_history.rating_last - review_history.rating_mean_before as double) as rating_change,
    cast(review_history.days_since_last_review as bigint) as days_since_last_review
from snapshots
left join review_history
    on snapshots.customer_id = review_history.customer_id and snapshots.as_of_date = review_history.as_of_date
