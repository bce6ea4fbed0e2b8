{% for table in churn_radar.raw_tables() %}
{%- set relation = churn_radar.raw_relation(table) %}
{%- set columns = churn_radar.raw_columns(table) %}
select
    '{{ table }}' as source_table,
    {{ '(select count(*) from ' ~ relation ~ ' as raw_rows)' if columns else 'cast(0 as bigint)' }} as row_count,
    '{{ columns | join(",") }}' as column_names
{% if not loop.last %}
union all
{% endif %}
{%- endfor %}
