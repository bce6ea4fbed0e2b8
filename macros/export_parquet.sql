{% macro export_parquet(folder, order_by='customer_id, as_of_date') %}
    {%- set moment = ', cast(as_of_date as timestamp) as event_timestamp' if folder == 'features' else '' -%}
    {%- set rows = 'select *' ~ moment ~ ' from ' ~ this ~ ' order by ' ~ order_by -%}
    {%- set path = folder ~ '/' ~ this.identifier -%}
    {%- if not churn_radar.is_spark() -%}
    copy ({{ rows }}) to {{ churn_radar.home_relation(path) }} (format parquet, compression zstd, use_tmp_file true)
    {%- elif execute -%} {%- do adapter.export_parquet(rows, path) -%}
    {%- endif -%}
{% endmacro %}
