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
    {{- return(adapter.dispatch('events_through', 'churn_radar')()) -}}
{% endmacro %}

{% macro duckdb__events_through() %}
    {%- set file = churn_radar.logged_events('through') -%}
    {%- if execute and churn_radar.column_types(file) is not none -%}
        (select max(through) from {{ file }})
    {%- else -%} cast(0 as bigint)
    {%- endif -%}
{% endmacro %}


{#- Where the plugin inference.state_directories writes the accepted events of a raw table before a build. -#}
{% macro logged_events(table) %}
    {{- return("'" ~ env_var('CHURN_HOME', '.churn') ~ '/events/' ~ table ~ ".parquet'") -}}
{% endmacro %}
