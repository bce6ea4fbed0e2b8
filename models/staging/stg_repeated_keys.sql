{{ config(materialized='table') }}
{%- set tables = ['orders', 'customers', 'order_items', 'events', 'reviews', 'support_tickets', 'campaign_touches'] -%}

with

{% for table in tables -%}
{{ table }}_keys as (
    select {{ churn_radar.key_hash(table) }} as key_hash
    from ({{ churn_radar.checked_rows(table) | indent(4) }}) as checked
),

-- sorted instead of grouped, which is much faster for 64-bit numbers
sorted_{{ table }} as (
    select
        key_hash,
        lag(key_hash) over (order by key_hash) as key_hash_before
    from {{ table }}_keys
){{ ',' if not loop.last }}

{% endfor -%}
{% for table in tables -%}
select distinct
    '{{ table }}' as source_table,
    key_hash
from sorted_{{ table }}
where key_hash = key_hash_before
{{ 'union all' if not loop.last }}
{% endfor %}
