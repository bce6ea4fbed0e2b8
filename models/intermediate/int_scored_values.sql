{{ config(materialized='table' if target.database == 'postgres' else 'view') }}
{%- set tables = {
    'order_features': ref('order_features'),
    'engagement_features': ref('engagement_features'),
    'review_features': ref('review_features'),
    'support_features': ref('support_features'),
    'campaign_features': ref('campaign_features'),
    'forecast_features': ref('forecast_features'),
    'text_features': ref('text_features'),
} %}
{%- set features = churn_radar.numeric_features('churn_features_v1') %}

with

scored as (
    select
        predictions.customer_id,
        dates.as_of_date,
        predictions.model_version
    from {{ ref('churn_predictions') }} as predictions
    inner join {{ ref('int_snapshot_dates') }} as dates on cast(predictions.as_of_date as date) = dates.as_of_date
    where dates.is_newest
),
{%- for table, columns in features.items() if table in tables %}

scored_{{ table }} as (
    select
        scored.as_of_date,
        scored.model_version,
        {{ table }}.{{ columns | join(',\n        ' ~ table ~ '.') }}
    from scored
    inner join {{ tables[table] }} as {{ table }}
        on scored.customer_id = {{ table }}.customer_id and scored.as_of_date = {{ table }}.as_of_date
),
{%- endfor %}

feature_values as (
    {%- for table, columns in features.items() if table in tables %}
    {{ churn_radar.unpivot('scored_' ~ table, ['as_of_date', 'model_version'], columns) | trim | indent(4) }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select
    as_of_date,
    model_version,
    feature,
    value,
    count(*) as customers
from feature_values
group by as_of_date, model_version, feature, value
