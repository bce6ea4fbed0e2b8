{#-
    Post-hook: export the model to $CHURN_HOME/<folder>/<model>.parquet. The file is written under a temporary name and
    renamed, so that readers never see an incomplete file.
-#}
{% macro export_parquet(folder, order_by='customer_id, as_of_date') %}
    {{- return(adapter.dispatch('export_parquet', 'churn_radar')(folder, order_by)) -}}
{% endmacro %}

{% macro duckdb__export_parquet(folder, order_by) %}
    copy (
        select
            *
            {%- if folder == 'features' %},
            cast(as_of_date as timestamp) as event_timestamp
            {%- endif %}
        from {{ this }}
        order by {{ order_by }}
    ) to '{{ env_var("CHURN_HOME", ".churn") }}/{{ folder }}/{{ this.identifier }}.parquet'
    (format parquet, compression zstd, use_tmp_file true)
{% endmacro %}

{% macro spark__export_parquet(folder, order_by) %}
    {%- if execute -%}
        {%- set moment = ', cast(as_of_date as timestamp) as event_timestamp' if folder == 'features' else '' -%}
        {%- do adapter.export_parquet('select *' ~ moment ~ ' from ' ~ this ~ ' order by ' ~ order_by, folder ~ '/' ~ this.identifier) -%}
    {%- endif -%}
{% endmacro %}
