-- depends_on: {{ ref('int_raw_tables') }}, which checks the raw tables
{{ config(materialized='table') }}
{#- lines of orders have no key -#}
{%- set tables = churn_radar.raw_tables() | reject('equalto', 'order_items') | list -%}
{%- set numbers = churn_radar.numeric_ids() if execute -%}

with

{% for table in tables -%}
-- sorted instead of grouped, which is much faster for 64-bit numbers
sorted_{{ table }} as (
    select
        key_hash,
        lag(key_hash) over (order by key_hash) as key_hash_before
    from (
        select {{ churn_radar.key_hash(table) }} as key_hash
        from (
            {{- churn_radar.checked_rows(table, numbers) | indent(12) }}
        ) as checked
    ) as hashed
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
