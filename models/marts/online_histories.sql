{%- set scores = churn_radar.aspects() + ['complaint'] -%}

with

newest as (
    select
        as_of_date,
        {{ churn_radar.add_days('as_of_date', '-' ~ var('churn__history_days')) }} as history_from,
        -- events are aggregated by day before this day and single from then on, as more events of those days may arrive
        {{ churn_radar.add_days('as_of_date', -2) }} as last_days_from
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

-- all current versions; the service filters them by time
orders as (
    select * from {{ ref('int_customer_orders') }} where superseded_at is null
),

earlier_orders as (
    select
        orders.customer_id,
        min(orders.activity_date) as first_order_date,
        count(distinct orders.activity_date) as order_days,
        count(*) as orders
    from orders
    cross join newest
    where orders.status = 'completed' and orders.activity_date < newest.history_from
    group by orders.customer_id
),

recent_orders as (
    select
        orders.customer_id,
        {{ churn_radar.json_lists({
            'order_id': 'orders.order_id',
            'ordered_at': churn_radar.microseconds('orders.ordered_at'),
            'known_at': churn_radar.microseconds('orders.known_at'),
            'status': 'orders.status',
            'amount': 'orders.amount',
            'discount_amount': 'orders.discount_amount',
            'has_coupon': 'orders.has_coupon',
            'items': 'orders.items',
            'category': 'orders.category'
        }, 'orders.ordered_at, orders.order_id') }} as orders
    from orders
    cross join newest
    where orders.activity_date >= newest.history_from
    group by orders.customer_id
),

items as (
    select
        orders.customer_id,
        {{ churn_radar.json_lists({
            'order_id': 'order_items.order_id',
            'product_id': 'order_items.product_id',
            'product_name': 'coalesce(order_items.product_name, order_items.category)',
            'category': 'order_items.category',
            'amount': churn_radar.as_double(churn_radar.fixed_point('order_items.quantity * order_items.unit_price'))
        }, 'order_items.order_id, order_items.product_id, order_items.quantity * order_items.unit_price') }} as items
    from orders
    cross join newest
    inner join {{ ref('stg_order_items') }} as order_items on orders.order_id = order_items.order_id
    where orders.activity_date >= {{ churn_radar.add_days('newest.as_of_date', -90) }}
    group by orders.customer_id
),

last_visits as (
    select
        daily_events.customer_id,
        max(daily_events.activity_date) as last_visit_date
    from {{ ref('int_customer_daily_events') }} as daily_events
    cross join newest
    where
        daily_events.activity_date < {{ churn_radar.add_days('newest.as_of_date', -churn_radar.sequence_days()) }}
    group by daily_events.customer_id
),

visits as (
    select
        daily_events.customer_id,
        {{ churn_radar.json_lists(dict(
            [('occurred_at', churn_radar.microseconds('last_event_at')), ('events', 'events'), ('sessions', 'sessions')]
            + churn_radar.same_names(churn_radar.event_types(), '_events')
        ), 'activity_date') }} as visit_days
    from {{ ref('int_customer_daily_events') }} as daily_events
    cross join newest
    where
        daily_events.activity_date >= {{ churn_radar.add_days('newest.as_of_date', -churn_radar.sequence_days()) }}
        and daily_events.activity_date < newest.last_days_from
    group by daily_events.customer_id
),

last_events as (
    select
        events.customer_id,
        {{ churn_radar.json_lists({
            'event_id': 'events.event_id',
            'event_type': 'events.event_type',
            'occurred_at': churn_radar.microseconds('events.occurred_at'),
            'session_id': 'events.session_id'
        }, 'events.occurred_at, events.event_id') }} as events
    from {{ ref('stg_events') }} as events
    cross join newest
    where cast(events.occurred_at as date) >= newest.last_days_from
    group by events.customer_id
),

ranked_texts as (
    select
        texts.text_id,
        texts.subject,
        -- the encoder reads no more than this
        substr(texts.text, 1, 2000) as text,
        row_number() over (
            partition by texts.customer_id order by texts.written_at desc, texts.text_id asc
        ) as position
    from {{ ref('int_texts') }} as texts
    where texts.superseded_at is null
),

reviews as (
    select
        *,
        {{ churn_radar.review_text_id('reviews') }} as text_id
    from {{ ref('int_reviews') }} as reviews
    where reviews.superseded_at is null
),

recent_reviews as (
    select
        reviews.customer_id,
        {{ churn_radar.json_lists(dict(
            [
                ('review_id', 'reviews.review_id'),
                ('text_id', 'ranked_texts.text_id'),
                ('reviewed_at', churn_radar.microseconds('reviews.reviewed_at')),
                ('known_at', churn_radar.microseconds('greatest(reviews.reviewed_at, coalesce(reviews.loaded_at, reviews.reviewed_at))')),
                ('rating', 'reviews.rating'),
                ('text', 'case when ranked_texts.position <= ' ~ churn_radar.max_texts() ~ ' then ranked_texts.text end'),
                ('subject', 'ranked_texts.subject')
            ]
            + churn_radar.same_names(scores, '_score', 'embeddings')
        ), 'reviews.reviewed_at, reviews.review_id') }} as reviews
    from reviews
    cross join newest
    left join ranked_texts on reviews.text_id = ranked_texts.text_id
    left join {{ ref('review_embeddings') }} as embeddings on ranked_texts.text_id = embeddings.text_id
    where cast(reviews.reviewed_at as date) >= newest.history_from
    group by reviews.customer_id
),

recent_tickets as (
    select
        tickets.customer_id,
        {{ churn_radar.json_lists(dict(
            [
                ('ticket_id', 'tickets.ticket_id'),
                ('text_id', 'ranked_texts.text_id'),
                ('opened_at', churn_radar.microseconds('tickets.opened_at')),
                ('closed_at', churn_radar.microseconds('tickets.closed_at')),
                ('satisfaction', 'tickets.satisfaction'),
                ('topic', 'tickets.topic'),
                ('text', 'case when ranked_texts.position <= ' ~ churn_radar.max_texts() ~ ' then ranked_texts.text end')
            ]
            + churn_radar.same_names(scores, '_score', 'embeddings')
        ), 'tickets.opened_at, tickets.ticket_id') }} as tickets
    from {{ ref('stg_support_tickets') }} as tickets
    cross join newest
    left join ranked_texts on 'support_tickets:' || tickets.ticket_id = ranked_texts.text_id
    left join {{ ref('review_embeddings') }} as embeddings on ranked_texts.text_id = embeddings.text_id
    where cast(tickets.opened_at as date) >= newest.history_from
    group by tickets.customer_id
),

recent_contacts as (
    select
        contacts.customer_id,
        {{ churn_radar.json_lists({
            'touch_id': 'contacts.touch_id',
            'action': 'contacts.action',
            'touched_at': churn_radar.microseconds('contacts.touched_at'),
            'redeemed_at': churn_radar.microseconds('contacts.redeemed_at')
        }, 'contacts.touched_at, contacts.touch_id') }} as contacts
    from {{ ref('stg_campaign_touches') }} as contacts
    cross join newest
    where cast(contacts.touched_at as date) >= newest.history_from
    group by contacts.customer_id
),

vectors as (
    select
        embeddings.customer_id,
        {{ churn_radar.json_lists({'text_id': 'embeddings.text_id'}, 'embeddings.text_id') }} as pooled,
        flatten({{ churn_radar.ordered_array('embeddings.embedding', 'embeddings.text_id') }}) as vectors
    from {{ ref('review_embeddings') }} as embeddings
    inner join ranked_texts on embeddings.text_id = ranked_texts.text_id
    cross join newest
    where embeddings.written_at >= cast({{ churn_radar.add_days('newest.as_of_date', -60) }} as timestamp)
    group by embeddings.customer_id
),

customers as (
    select distinct customer_id
    from orders
    union distinct
    select distinct customer_id
    from {{ ref('stg_customers') }}
),

attributes as (
    select
        customers.customer_id,
        {{ churn_radar.name_value_array(churn_radar.attributes_of('customers'), 'customers') }} as attributes
    from {{ ref('stg_customers') }} as customers
)

select
    customers.customer_id,
    newest.as_of_date,
    -- a column of its own, as it would change every history every day
    cast({{ churn_radar.last_event_position() }} as bigint) as through,
    {{ churn_radar.json_object({
        'first_order_date': 'earlier_orders.first_order_date',
        'order_days': 'earlier_orders.order_days',
        'orders_before': 'earlier_orders.orders',
        'attributes': churn_radar.as_json('attributes.attributes'),
        'orders': 'recent_orders.orders',
        'items': 'items.items',
        'last_visit_date': 'last_visits.last_visit_date',
        'visit_days': 'visits.visit_days',
        'events': 'last_events.events',
        'reviews': 'recent_reviews.reviews',
        'tickets': 'recent_tickets.tickets',
        'contacts': 'recent_contacts.contacts',
        'pooled': 'vectors.pooled'
    }) }} as history,
    cast(vectors.vectors as {{ 'array<float>' if churn_radar.is_spark() else 'real[]' }}) as text_vectors
from customers
cross join newest
left join earlier_orders on customers.customer_id = earlier_orders.customer_id
left join recent_orders on customers.customer_id = recent_orders.customer_id
left join items on customers.customer_id = items.customer_id
left join last_visits on customers.customer_id = last_visits.customer_id
left join visits on customers.customer_id = visits.customer_id
left join last_events on customers.customer_id = last_events.customer_id
left join recent_reviews on customers.customer_id = recent_reviews.customer_id
left join recent_tickets on customers.customer_id = recent_tickets.customer_id
left join recent_contacts on customers.customer_id = recent_contacts.customer_id
left join vectors on customers.customer_id = vectors.customer_id
left join attributes on customers.customer_id = attributes.customer_id
