{%- set events = {
    'event_types': 'event_type',
    'event_categories': "coalesce(category, '')",
    'event_days_ago': 'cast(days_ago as real)',
    'event_amounts': 'cast(coalesce(amount, 0) as real)',
} -%}
{#- tie-breakers for events with equal timestamps: only columns that the model reads, so that equal inputs have one order -#}
{%- set tie_breakers = [events.event_types, events.event_categories, events.event_amounts] -%}
{%- set texts = {
    'text_ids': 'text_id',
    'texts': 'substr(text, 1, 2000)',
    'text_subjects': "coalesce(subject, '')",
    'text_days_ago': 'cast(days_ago as real)',
    'text_ratings': 'cast(coalesce(rating, 0) as real)',
} -%}

with

snapshots as (
    select
        *,
        {{ churn_radar.add_days('as_of_date', -churn_radar.sequence_days()) }} as events_from,
        {{ churn_radar.add_days('as_of_date', '-' ~ var('churn__history_days')) }} as texts_from
    from (
        {{ churn_radar.snapshots_to_build() }}
    ) as to_build
    where is_sampled -- snapshots that exist only because of a contact have no sequences
),

known_events as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        events.event_type,
        events.category,
        events.amount,
        {{ churn_radar.microseconds('events.occurred_at') }} as microseconds,
        {{ churn_radar.as_double(
            churn_radar.seconds_between('events.occurred_at', 'cast(snapshots.as_of_date as timestamp)')
        ) }} / 86400 as days_ago
    from snapshots
    inner join {{ ref('int_customer_events') }} as events
        on
            snapshots.customer_id = events.customer_id
            {%- if not var('churn__transformer') %}
            and false -- only the transformer reads events
            {%- endif %}
            and {{ churn_radar.known_at_midnight('events', 'occurred_at', 'snapshots.as_of_date') }}
            and cast(snapshots.events_from as timestamp) <= events.occurred_at
),

event_sequences as (
    select
        customer_id,
        as_of_date,
        {{ churn_radar.first_rows(events, ['-microseconds'] + tie_breakers, churn_radar.max_events()) }}
    from known_events
    group by customer_id, as_of_date
),

known_texts as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        texts.text_id,
        texts.text,
        texts.subject,
        texts.rating,
        {{ churn_radar.microseconds('texts.written_at') }} as microseconds,
        {{ churn_radar.as_double(
            churn_radar.seconds_between('texts.written_at', 'cast(snapshots.as_of_date as timestamp)')
        ) }} / 86400 as days_ago
    from snapshots
    inner join {{ ref('int_texts') }} as texts
        on
            snapshots.customer_id = texts.customer_id
            and {{ churn_radar.known_at_midnight('texts', 'written_at', 'snapshots.as_of_date') }}
            and cast(snapshots.texts_from as timestamp) <= texts.written_at
),

text_sequences as (
    select
        customer_id,
        as_of_date,
        {{ churn_radar.first_rows(texts, ['-microseconds', 'text_id'], churn_radar.max_texts()) }}
    from known_texts
    group by customer_id, as_of_date
)

select
    snapshots.customer_id,
    snapshots.as_of_date,
    event_sequences.event_types,
    event_sequences.event_categories,
    event_sequences.event_days_ago,
    event_sequences.event_amounts,
    text_sequences.text_ids,
    text_sequences.texts,
    text_sequences.text_subjects,
    text_sequences.text_days_ago,
    text_sequences.text_ratings
from snapshots
left join event_sequences
    on snapshots.customer_id = event_sequences.customer_id and snapshots.as_of_date = event_sequences.as_of_date
left join text_sequences
    on snapshots.customer_id = text_sequences.customer_id and snapshots.as_of_date = text_sequences.as_of_date
