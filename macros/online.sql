{#- Exchange of data between builds and the HTTP service. -#}

{% macro same_names(names, suffix, relation=none) %}
    {% set pairs = [] %}
    {% for name in names %}
        {% do pairs.append((name ~ suffix, (relation ~ '.' if relation else '') ~ name ~ suffix)) %}
    {% endfor %}
    {{ return(pairs) }}
{% endmacro %}


{% macro last_event_position() %}
    {%- set file = churn_radar.logged_events('through') -%}
    {%- if execute and churn_radar.column_types(file) is not none -%}
        (select max(through) from {{ file }})
    {%- else -%} cast(0 as bigint)
    {%- endif -%}
{% endmacro %}


{#- Events of a raw table accepted by the service; inference.warehouse.plugin writes them before a build. -#}
{% macro logged_events(table) %}{{ return(churn_radar.home_relation('events/' ~ table)) }}{% endmacro %}


{#- A Parquet file in $CHURN_HOME as a relation; `path` has no extension. -#}
{% macro home_relation(path) %}
    {% set file = env_var('CHURN_HOME', '.churn') ~ '/' ~ path ~ '.parquet' %}
    {{ return(adapter.file_relation(file) if churn_radar.is_spark() else "'" ~ file | replace("'", "''") ~ "'") }}
{% endmacro %}
