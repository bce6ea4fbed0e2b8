{%- set tables = ['orders', 'customers', 'order_items', 'events', 'reviews', 'support_tickets', 'campaign_touches'] -%}
{% for table in tables %}
select
    '{{ table }}' as source_table,
    count(*) as row_count,
    '{{ churn_radar.raw_columns(table) | join(",") }}' as column_names
from ({{ churn_radar.checked_rows(table) | indent(4) }}) as checked
{% if not loop.last %}union all{% endif %}
{% endfor %}
