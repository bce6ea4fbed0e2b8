{#- PostgreSQL as the database that DuckDB builds in: statements that DuckDB's scanner does not translate. -#}

{#- Whether models are tables in an attached PostgreSQL database. -#}
{% macro is_postgres() %}{{ return(target.database == 'postgres') }}{% endmacro %}


{#- Statement that runs SQL in PostgreSQL, in the transaction of the model. -#}
{% macro postgres_execute(sql) %}
    {{ return("call postgres_execute('" ~ target.database ~ "', '" ~ sql | replace("'", "''") ~ "')") }}
{% endmacro %}


{#- New columns of an incremental model; the scanner sends the types by the names that DuckDB has for them. -#}
{% macro duckdb__alter_relation_add_remove_columns(relation, add_columns, remove_columns) %}
    {% if not churn_radar.is_postgres() %}
        {{ return(dbt.duckdb__alter_relation_add_remove_columns(relation, add_columns, remove_columns)) }}
    {% endif %}
    {% set changes = [] %}
    {% for column in add_columns or [] %}
        {% set type = column.data_type | upper | replace('DOUBLE', 'double precision') | replace('FLOAT', 'real') | replace('BLOB', 'bytea') %}
        {% do changes.append('add column ' ~ adapter.quote(column.name) ~ ' ' ~ type) %}
    {% endfor %}
    {% for column in remove_columns or [] %}
        {% do changes.append('drop column ' ~ adapter.quote(column.name)) %}
    {% endfor %}
    {% do run_query(churn_radar.postgres_execute('alter table ' ~ relation.include(database=false) ~ ' ' ~ changes | join(', '))) %}
    {#- DuckDB remembers the columns of a table that it has read -#}
    {% do run_query('call pg_clear_cache()') %}
{% endmacro %}


{% macro drop_old_relations() %}
    {% if not execute or not churn_radar.is_postgres() or not churn_radar.is_selected() %}{{ return('') }}{% endif %}
    {% set query = (
        "select 'view', viewname from pg_views where schemaname = '" ~ target.schema ~ "' union all "
        ~ "select 'table', tablename from pg_tables where schemaname = '" ~ target.schema ~ "' and tablename like 'home\\_e%'"
    ) %}
    {% set models = graph.nodes.values() | selectattr('package_name', 'equalto', 'churn_radar') | selectattr('resource_type', 'equalto', 'model') %}
    {% set names = models | selectattr('schema', 'equalto', target.schema) | map(attribute='alias') | list %}
    {% for row in run_query("from postgres_query('" ~ target.database ~ "', '" ~ query | replace("'", "''") ~ "')").rows %}
        {% if row[0] == 'table' or row[1] in names %}
            {% set relation = api.Relation.create(database=target.database, schema=target.schema, identifier=row[1], type='table') %}
            {% do run_query(churn_radar.postgres_execute('drop ' ~ row[0] ~ ' if exists ' ~ relation.include(database=false) ~ ' cascade')) %}
            {#- gone already: only dbt has to forget it -#}
            {% do adapter.drop_relation(relation) %}
        {% endif %}
    {% endfor %}
    {{ return('') }}
{% endmacro %}
