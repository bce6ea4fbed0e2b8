-- depends_on: {{ ref('int_raw_tables') }}, which checks the raw tables
{%- set numbers = churn_radar.numeric_ids() if execute %}
{% for table in churn_radar.raw_tables() %}
select
    '{{ table }}' as source_table,
    rejection_reason,
    {{ churn_radar.row_as_json("checked") }} as row_content
from (
    {{- churn_radar.checked_rows(table, numbers) | indent(4) }}
) as checked
where rejection_reason is not null
{% if not loop.last %}
union all
{% endif %}
{%- endfor %}
