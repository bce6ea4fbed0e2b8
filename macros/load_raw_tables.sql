{#-
    Load the Parquet files of $CHURN_RAW_DIR into the raw tables of a warehouse that cannot read files:
    dbt run-operation load_raw_tables --target postgres
-#}
{% macro load_raw_tables() %}
    {% for contract in churn_radar.raw_contracts() %}
        {% set file = contract.meta.external_location.replace('{name}', contract.name) %}
        {% set rows = adapter.load_parquet(file, contract.schema, contract.identifier) %}
        {% if rows is not none %}
            {{ log(rows ~ ' rows  ' ~ contract.relation_name, info=true) }}
        {% endif %}
    {% endfor %}
{% endmacro %}
