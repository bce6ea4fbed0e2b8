{#- Point-in-time conditions: a row version is valid from its arrival until a later version arrives. -#}

{% macro known_at(rows, as_of_date) -%}
    {{ as_of_date }} > {{ rows }}.activity_date
    and {{ as_of_date }} > {{ rows }}.arrived_date
    and ({{ rows }}.superseded_date is null or {{ as_of_date }} <= {{ rows }}.superseded_date)
{%- endmacro %}


{% macro known_at_midnight(rows, happened_at, as_of_date) -%}
    cast({{ as_of_date }} as timestamp) > {{ rows }}.{{ happened_at }}
    and cast({{ as_of_date }} as timestamp) > {{ rows }}.known_at
    and ({{ rows }}.superseded_at is null or cast({{ as_of_date }} as timestamp) <= {{ rows }}.superseded_at)
{%- endmacro %}


{% macro known_now(rows) %}
    {%- set as_of_date = var('churn__as_of_date') -%}
    {%- if as_of_date is none -%}
        {{ rows }}.superseded_date is null
    {%- else -%}
        {{ rows }}.arrived_date < cast('{{ as_of_date }}' as date)
        and ({{ rows }}.superseded_date is null or cast('{{ as_of_date }}' as date) <= {{ rows }}.superseded_date)
    {%- endif -%}
{% endmacro %}


{% macro newest_as_of_date(last_order_date) -%}
    {%- if var('churn__as_of_date') -%} cast('{{ var('churn__as_of_date') }}' as date)
    {%- else -%}
    {%- set next, tomorrow = churn_radar.add_days(last_order_date, 1), churn_radar.add_days(churn_radar.today(), 1) -%}
    {#- not least(), which would be tomorrow in a shop without orders -#}
    case when {{ next }} > {{ tomorrow }} then {{ tomorrow }} else {{ next }} end
    {%- endif -%}
{%- endmacro %}


{% macro moves_newest_date(day) %}
    {% set parts = churn_radar.raw_parts('orders') %}
    {% if parts | length < 2 %}{{ return('true') }}{% endif %}
    {% set newest = run_query(
        'select max(cast(ordered_at as date)) from (' ~ churn_radar.read_rows('orders', parts[0], parts[0], [], churn_radar.numeric_ids())
        ~ ") as own_rows where status = 'completed' and cast(ordered_at as date) <= " ~ churn_radar.add_days(churn_radar.today(), 1)
    ).rows[0][0] %}
    {{ return(day ~ ' <= ' ~ churn_radar.add_days("cast('" ~ newest ~ "' as date)", var('churn__horizon_days')) if newest else 'true') }}
{% endmacro %}


{% macro orders_as_known(known, arrived_at='loaded_at', has_changed='false') %}
    {%- set own_id = "split_part(refunds.order_id, ' refund of ', 1)" -%}
    with

    arrivals as (
        select
            *,
            coupon_code is not null as has_coupon,
            greatest(ordered_at, coalesce({{ arrived_at }}, ordered_at)) as known_at
        from {{ ref('stg_orders') }}
    ),

    given_back as (
        select
            {{ own_id }} as order_id,
            min(refunds.order_id) as refund_id
        from arrivals as refunds
        left join arrivals as own on {{ own_id }} = own.order_id
        left join {{ known }} as known
            on {{ own_id }} = known.order_id and refunds.ordered_at = known.ordered_at and known.status <> 'refund'
        where
            refunds.status = 'refund'
            and own.order_id is null
            and (known.order_id is not null or {{ has_changed }})
        group by {{ own_id }}
    )

    select
        coalesce(given_back.order_id, arrivals.order_id) as order_id,
        arrivals.version,
        arrivals.customer_id,
        case when given_back.order_id is not null then 'returned' else arrivals.status end as status,
        arrivals.ordered_at,
        arrivals.known_at,
        arrivals.superseded_at,
        case when given_back.order_id is not null then -arrivals.amount else arrivals.amount end as amount,
        arrivals.discount_amount,
        arrivals.has_coupon
    from arrivals
    left join given_back on arrivals.order_id = given_back.refund_id
{% endmacro %}


{% macro review_text_id(reviews) -%}
    'reviews:' || {{ reviews }}.review_id || case when {{ reviews }}.version > 1 then '#' || {{ churn_radar.as_text(reviews ~ '.version') }} else '' end
{%- endmacro %}
