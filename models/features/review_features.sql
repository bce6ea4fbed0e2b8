{%- set zero = churn_radar.zero_if_present('reviews') -%}

with

snapshots as (
    {{ churn_radar.snapshots_to_build() }}
),

reviews as (
    select
        int_reviews.*,
        coalesce(int_reviews.loaded_at, int_reviews.reviewed_at) as known_at,
        {%- for aspect in churn_radar.aspects() %}
        review_embeddings.{{ aspect }}_score,
        {%- endfor %}
        review_embeddings.complaint_score
    from {{ ref('int_reviews') }} as int_reviews
    left join {{ ref('review_embeddings') }} as review_embeddings
        on {{ churn_radar.review_text_id('int_reviews') }} = review_embeddings.text_id
),

known_reviews as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        {{ churn_radar.fixed_point('reviews.rating') }} as rating,
        {%- for aspect in churn_radar.aspects() %}
        reviews.{{ aspect }}_score,
        {%- endfor %}
        {{ churn_radar.fixed_point('reviews.complaint_score') }} as complaint_score,
        {{ churn_radar.days_between('cast(reviews.reviewed_at as date)', 'snapshots.as_of_date') }} as days_ago,
        row_number() over (
            partition by snapshots.customer_id, snapshots.as_of_date
            order by reviews.reviewed_at desc, reviews.review_id desc
        ) as recency_rank
    from snapshots
    inner join reviews
        on
            snapshots.customer_id = reviews.customer_id
            and {{ churn_radar.known_at_midnight('reviews', 'reviewed_at', 'snapshots.as_of_date') }}
            and {{ churn_radar.add_days('snapshots.as_of_date', '-' ~ var('churn__history_days')) }} <= cast(reviews.reviewed_at as date)
),

review_history as (
    select
        customer_id,
        as_of_date,
        count(*) as reviews_total,
        count(case when days_ago <= 90 then 1 end) as reviews_90d,
        {{ churn_radar.mean('rating') }} as rating_mean,
        cast(max(case when recency_rank = 1 then rating end) as double) as rating_last,
        {{ churn_radar.mean('case when recency_rank > 1 then rating end') }} as rating_mean_before,
        min(days_ago) as days_since_last_review,
        cast(max(case when recency_rank = 1 then complaint_score end) as double) as complaint_last,
        max(case when days_ago <= 90 then complaint_score end) as complaint_max_90d,
        {{ churn_radar.mean('case when recency_rank > 1 then complaint_score end') }} as complaint_mean_before,
        {%- for aspect in churn_radar.aspects() %}
        max(case when days_ago <= 90 then {{ aspect }}_score end) as {{ aspect }}_complaint_90d,
        {%- endfor %}
        min(case when complaint_score >= {{ var('churn__complaint_from') }} then days_ago end) as days_since_last_complaint
    from known_reviews
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    cast(coalesce(review_history.reviews_total, {{ zero }}) as bigint) as reviews_total,
    cast(coalesce(review_history.reviews_90d, {{ zero }}) as bigint) as reviews_90d,
    review_history.rating_mean,
    review_history.rating_last,
    review_history.rating_last - review_history.rating_mean_before as rating_change,
    cast(review_history.days_since_last_review as bigint) as days_since_last_review,

    -- complaint scores of the texts
    review_history.complaint_last as review_complaint_last,
    cast(review_history.complaint_max_90d as double) as review_complaint_90d,
    review_history.complaint_last - review_history.complaint_mean_before as review_complaint_change,
    {%- for aspect in churn_radar.aspects() %}
    cast(review_history.{{ aspect }}_complaint_90d as double) as review_{{ aspect }}_complaint_90d,
    {%- endfor %}
    cast(review_history.days_since_last_complaint as bigint) as days_since_last_review_complaint,
    (review_history.rating_last - 3) / 2 + review_history.complaint_last as rating_words_gap
from snapshots
left join review_history
    on snapshots.customer_id = review_history.customer_id and snapshots.as_of_date = review_history.as_of_date
