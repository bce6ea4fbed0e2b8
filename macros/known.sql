{#- Point-in-time conditions: a row version is valid from its arrival until a later version arrives. -#}

{#- Whether a row of a daily table happened and arrived before an as-of date and is not superseded by then. -#}
{% macro known_at(rows, as_of_date) -%}
    {{ as_of_date }} > {{ rows }}.activity_date
    and {{ as_of_date }} > {{ rows }}.arrived_date
    and ({{ rows }}.superseded_date is null or {{ as_of_date }} <= {{ rows }}.superseded_date)
{%- endmacro %}


{#- The same for rows with timestamps; `happened_at` names the column with the event time. -#}
{% macro known_at_midnight(rows, happened_at, as_of_date) -%}
    cast({{ as_of_date }} as timestamp) > {{ rows }}.{{ happened_at }}
    and cast({{ as_of_date }} as timestamp) > {{ rows }}.known_at
    and ({{ rows }}.superseded_at is null or cast({{ as_of_date }} as timestamp) <= {{ rows }}.superseded_at)
{%- endmacro %}


{#-
    Whether a row of a daily table is the current version. Labels use every row that has arrived by now, however late;
    a build for a past churn__as_of_date uses only rows that had arrived by that date.
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


{#- text_id of a review; each later version of a review has an id of its own. -#}
{% macro review_text_id(reviews) -%}
    'reviews:' || {{ reviews }}.review_id || case when {{ reviews }}.version > 1 then '#' || {{ churn_radar.as_text(reviews ~ '.version') }} else '' end
{%- endmacro %}
