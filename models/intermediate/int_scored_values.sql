{{ config(materialized='view') }}
{%- set tables = [
    'order_features', 'engagement_features', 'review_features', 'support_features', 'campaign_features', 'forecast_features',
    'text_features',
] %}

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
{%- for table in tables %}

{{ table }}_scored as (
    select
        scored.as_of_date,
        scored.model_version,
        features.*
    from scored
    inner join (
        select
            customer_id as scored_customer_id,
            as_of_date as feature_date,
            {{ churn_radar.numeric_features(table) | join(',\n            ') }}
        from {{ ref(table) }}
    ) as features on scored.customer_id = features.scored_customer_id and scored.as_of_date = features.feature_date
),
{%- endfor %}

feature_values as (
    {%- for table in tables %}
    {{ churn_radar.unpivot(table ~ '_scored', ['as_of_date', 'model_version'], churn_radar.numeric_features(table)) | indent(4) }}
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
