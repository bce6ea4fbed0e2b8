{#- What the service reads of the last build, and what the build reads of the service. -#}

{#- Pairs of a name and a column of that name, for a mapping: each of `names` with a suffix. -#}
{% macro same_names(names, suffix, relation=none) %}
    {% set pairs = [] %}
    {% for name in names %}
        {% do pairs.append((name ~ suffix, (relation ~ '.' if relation else '') ~ name ~ suffix)) %}
    {% endfor %}
    {{ return(pairs) }}
{% endmacro %}


{#- Position in the log of the newest event that this build has read; 0 where no event was ever accepted. -#}
{% macro events_through() %}
    {%- set file = churn_radar.logged_events('through') -%}
    {%- if execute and churn_radar.column_types(file) is not none -%}
        (select max(through) from {{ file }})
    {%- else -%} cast(0 as bigint)
    {%- endif -%}
{% endmacro %}


{#- The accepted events of a raw table, which inference.warehouse.plugin writes before a build. -#}
{% macro logged_events(table) %}
    {{- return(churn_radar.home_relation('events/' ~ table)) -}}
{% endmacro %}


{#- A Parquet file of $CHURN_HOME, by its path without the ending, as a relation. -#}
{% macro home_relation(path) %}
    {{- return(adapter.dispatch('home_relation', 'churn_radar')(path)) -}}
{% endmacro %}

{% macro duckdb__home_relation(path) %}
    {{- return("'" ~ env_var('CHURN_HOME', '.churn') ~ '/' ~ path ~ ".parquet'") -}}
{% endmacro %}

{#- The adapter loads them before a build. -#}
{% macro postgres__home_relation(path) %}{{ return(adapter.home_relation(path)) }}{% endmacro %}

{% macro spark__home_relation(path) %}{{ return(adapter.file_relation(env_var('CHURN_HOME', '.churn') ~ '/' ~ path ~ '.parquet')) }}{% endmacro %}
