with

newest as (
    select as_of_date
    from {{ ref('int_snapshot_dates') }}
    where is_newest
)

select
    texts.text_id,
    newest.as_of_date,
    texts.customer_id,
    cast(case texts.source_table when 'reviews' then 'review' else 'ticket' end as {{ churn_radar.type_string() }}) as kind,
    texts.written_at,
    quotes.quote,
    embeddings.delivery_score,
    embeddings.quality_score,
    embeddings.price_score,
    embeddings.service_score,
    embeddings.returns_score,
    embeddings.complaint_score,
    embeddings.encoder_revision,
    embeddings.embedding
from {{ ref('int_texts') }} as texts
inner join {{ ref('review_embeddings') }} as embeddings on texts.text_id = embeddings.text_id
inner join {{ ref('text_quotes') }} as quotes on texts.text_id = quotes.text_id
inner join newest
    on
        {{ churn_radar.known_at_midnight('texts', 'written_at', 'newest.as_of_date') }}
        and cast({{ churn_radar.add_days('newest.as_of_date', '-' ~ var('churn__history_days')) }} as timestamp) <= texts.written_at
