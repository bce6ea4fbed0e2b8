{#- What is known when: rows count from their arrival until a later version of them arrives. -#}

{#- Whether a row of daily activity, by its alias, is known at a snapshot's as-of date; it happened before it, too. -#}
{% macro known_at(rows, as_of_date) -%}
    {{ as_of_date }} > {{ rows }}.activity_date
    and {{ as_of_date }} > {{ rows }}.arrived_date
    and ({{ rows }}.superseded_date is null or {{ as_of_date }} <= {{ rows }}.superseded_date)
{%- endmacro %}


{#- The same for rows with moments instead of days; `happened_at` is the name of their own moment. -#}
{% macro known_at_midnight(rows, happened_at, as_of_date) -%}
    cast({{ as_of_date }} as timestamp) > {{ rows }}.{{ happened_at }}
    and cast({{ as_of_date }} as timestamp) > {{ rows }}.known_at
    and ({{ rows }}.superseded_at is null or cast({{ as_of_date }} as timestamp) <= {{ rows }}.superseded_at)
{%- endmacro %}


{#-
    Whether a row of daily activity is known now. Outcomes may be learned from all that has arrived, however late; a
    build for a past churn__as_of_date must not know what arrived after it.
-#}
{% macro known_now(rows) %}
    {%- set as_of_date = var('churn__as_of_date') -%}
    {%- if as_of_date is none -%}
        {{ rows }}.superseded_date is null
    {%- else -%}
        {{ rows }}.arrived_date < cast('{{ as_of_date }}' as date)
        and ({{ rows }}.superseded_date is null or cast('{{ as_of_date }}' as date) <= {{ rows }}.superseded_date)
    {%- endif -%}
{% endmacro %}


{#- Key of a review's text; a correction that arrived later is a text of its own. -#}
{% macro review_text_id(reviews) -%}
    'reviews:' || {{ reviews }}.review_id || case when {{ reviews }}.version > 1 then '#' || cast({{ reviews }}.version as {{ churn_radar.type_string() }}) else '' end
{%- endmacro %}
