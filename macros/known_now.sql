{#-
    Whether a row that arrived on a date is known now. Outcomes may be learned from all that has arrived, however
    late; a build for a past churn__as_of_date must not know what arrived after it.
-#}
{% macro known_now(arrived_date) %}
    {%- set as_of_date = var('churn__as_of_date') -%}
    {%- if as_of_date is none -%} true {%- else -%} {{ arrived_date }} < cast('{{ as_of_date }}' as date) {%- endif -%}
{% endmacro %}
