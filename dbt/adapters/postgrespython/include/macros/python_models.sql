{#- The materializations of dbt, which leave Python models to get_create_table_as_sql. -#}
{% materialization table, adapter='postgrespython', supported_languages=['sql', 'python'] %}
    {{ return(materialization_table_default()) }}
{% endmaterialization %}

{% materialization incremental, adapter='postgrespython', supported_languages=['sql', 'python'] %}
    {{ return(materialization_incremental_default()) }}
{% endmaterialization %}


{#-
    A table as a query makes it, or a Python model: that runs first and writes beside, in a transaction of its own, what
    the model's transaction moves into place.
-#}
{% macro postgrespython__get_create_table_as_sql(temporary, relation, sql) -%}
    {%- if model.language == 'python' -%}
    {%- set staged = adapter.run_python_model(model) -%}
    create {{ 'temporary ' if temporary }}table {{ relation }} as (
        select {{ staged.columns | join(', ') }}
        from {{ staged.relation }}
    );
    drop table {{ staged.relation }};
    {%- else -%}
    {{ default__get_create_table_as_sql(temporary, relation, sql) }}
    {%- endif -%}
{%- endmacro %}
