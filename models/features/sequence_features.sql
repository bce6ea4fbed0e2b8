with

snapshots as (
    select
        *,
        {{ churn_radar.add_days('as_of_date', -churn_radar.sequence_days()) }} as starts_on
    from (
        {{ churn_radar.snapshots_to_build() }}
    ) as to_build
    where is_sampled -- what effects are learned from has no sequences
),

known_events as (
    select
        snapshots.customer_id,
        snapshots.as_of_date,
        events.event_type,
        events.category,
        events.amount,
        {{ churn_radar.seconds_between('events.occurred_at', 'cast(snapshots.as_of_date as timestamp)') }} / 86400.0 as days_ago,
        row_number() over (
            partition by snapshots.customer_id, snapshots.as_of_date
            order by events.occurred_at desc, events.event_type asc, events.event_id asc
        ) as position
    from snapshots
    inner join {{ ref('int_customer_events') }} as events
        on
            snapshots.customer_id = events.customer_id
            and {{ churn_radar.known_at_midnight('events', 'occurred_at', 'snapshots.as_of_date') }}
            and cast(snapshots.starts_on as timestamp) <= events.occurred_at
),

event_sequences as (
    select
        customer_id,
        as_of_date,
        {{ churn_radar.list_of('event_type', 'position') }} as event_types,
        {{ churn_radar.list_of("coalesce(category, '')", 'position') }} as event_categories,
        {{ churn_radar.list_of('cast(days_ago as real)', 'position') }} as event_days_ago,
        {{ churn_radar.list_of("cast(coalesce(amount, 0) as real)", 'position') }} as event_amounts
    from known_events
    where position <= {{ churn_radar.most_events() }}
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
        {{ churn_radar.seconds_between('texts.written_at', 'cast(snapshots.as_of_date as timestamp)') }} / 86400.0 as days_ago,
        row_number() over (
            partition by snapshots.customer_id, snapshots.as_of_date order by texts.written_at desc, texts.text_id asc
        ) as position
    from snapshots
    inner join {{ ref('int_texts') }} as texts
        on
            snapshots.customer_id = texts.customer_id
            and {{ churn_radar.known_at_midnight('texts', 'written_at', 'snapshots.as_of_date') }}
            and cast(snapshots.starts_on as timestamp) <= texts.written_at
),

text_sequences as (
    select
        customer_id,
        as_of_date,
        {{ churn_radar.list_of('text_id', 'position') }} as text_ids,
        {{ churn_radar.list_of('substr(text, 1, 2000)', 'position') }} as texts,
        {{ churn_radar.list_of("coalesce(subject, '')", 'position') }} as text_subjects,
        {{ churn_radar.list_of('cast(days_ago as real)', 'position') }} as text_days_ago,
        {{ churn_radar.list_of("cast(coalesce(rating, 0) as real)", 'position') }} as text_ratings
    from known_texts
    where position <= {{ churn_radar.most_texts() }}
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
