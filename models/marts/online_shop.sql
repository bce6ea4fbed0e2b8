{%- set tables, unrecorded = [], [] %}
{%- for table in churn_radar.raw_tables() if execute and churn_radar.raw_parts(table) %}
{%- do tables.append(table) %}
{%- endfor %}
{#- columns whose features are null, as the shop does not record them #}
{%- for table, column in [('orders', 'coupon_code'), ('events', 'session_id')] if not churn_radar.is_recorded(table, column) %}
{%- do unrecorded.append(table ~ '.' ~ column) %}
{%- endfor %}

with

newest as (
    select as_of_date
    from {{ ref('int_snapshot_dates') }}
    where is_newest
),

dated_predictions as (
    select
        predictions.*,
        max(predictions.scored_at) over () as last_scored_at
    from {{ ref('churn_predictions') }} as predictions
    inner join newest on predictions.as_of_date = newest.as_of_date
),

-- only the last scoring run of the date, in which all customers have the same level shift
predictions as (
    select * from dated_predictions where scored_at = last_scored_at
),

level as (
    select
        max(model_version) as model_version,
        max(level_shift) as level_shift,
        {{ churn_radar.percentiles('churn_probability') }} as percentiles
    from predictions
),

forecast as (
    select
        max(forecasts.rate_shape) as rate_shape,
        max(forecasts.rate_scale) as rate_scale,
        max(forecasts.leave_a) as leave_a,
        max(forecasts.leave_b) as leave_b
    from {{ ref('purchase_forecasts') }} as forecasts
    inner join newest on forecasts.as_of_date = newest.as_of_date
),

first_order as (
    select min(activity_date) as first_date
    from {{ ref('int_customer_orders') }}
)

select
    'shop' as shop_id,
    newest.as_of_date,
    {{ churn_radar.json_object({
        'as_of': 'newest.as_of_date',
        'through': churn_radar.last_event_position(),
        'model_version': 'level.model_version',
        'level_shift': 'level.level_shift',
        'percentiles': churn_radar.as_json('level.percentiles'),
        'forecast': churn_radar.json_of({
            'r': 'forecast.rate_shape', 'alpha': 'forecast.rate_scale', 'a': 'forecast.leave_a', 'b': 'forecast.leave_b'
        }),
        'first_date': 'first_order.first_date',
        'encoder_revision': '(select max(encoder_revision) from ' ~ ref('review_embeddings') ~ ')',
        'tables': churn_radar.json_texts(tables),
        'numeric_ids': churn_radar.json_texts(churn_radar.numeric_ids()),
        'unrecorded': churn_radar.json_texts(unrecorded),
        'event_types': churn_radar.json_texts(churn_radar.event_types()),
        'aspects': churn_radar.json_texts(churn_radar.aspects()),
        'aspect_descriptions': '(select ' ~ churn_radar.as_json('array_agg(' ~ churn_radar.json_of({'aspect': 'aspect', 'polarity': 'polarity', 'description': 'description'}) ~ ')') ~ ' from ' ~ ref('aspect_descriptions') ~ ')',
        'horizon_days': var('churn__horizon_days'),
        'history_days': var('churn__history_days'),
        'activity_days': var('churn__activity_days'),
        'min_orders': var('churn__min_orders'),
        'min_group': var('churn__min_group'),
        'pseudonymise': 'true' if var('churn__pseudonymise') else 'false',
        'complaint_from': var('churn__complaint_from'),
        'bands': churn_radar.json_array([var('churn__band_medium'), var('churn__band_high'), var('churn__band_critical')]),
        'sequence_days': churn_radar.sequence_days(),
        'most_events': churn_radar.max_events(),
        'most_texts': churn_radar.max_texts()
    }) }} as facts
from newest
cross join level
cross join forecast
cross join first_order
where level.model_version is not null
