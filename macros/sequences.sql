{#- Bounds of what the transformer reads of a customer; older than these are left out. -#}
{% macro most_events() %}{{ return(32) }}{% endmacro %}
{% macro most_texts() %}{{ return(4) }}{% endmacro %}
{% macro sequence_days() %}{{ return(180) }}{% endmacro %}


{#- The values of a group as an array, in an order. -#}
{% macro list_of(value, order_by) %}
    {{- return(adapter.dispatch('list_of', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__list_of(value, order_by) %}array_agg({{ value }} order by {{ order_by }}){% endmacro %}


{#- Columns of a relation as one array of texts name=value; null where the relation has no row, or without columns. -#}
{% macro packed(names, relation) %}
    {{- return(adapter.dispatch('packed', 'churn_radar')(names, relation)) -}}
{% endmacro %}

{% macro default__packed(names, relation) %}
    {%- if not names -%} cast(null as varchar[])
    {%- else -%}
    {%- set texts = [] -%}
    {%- for name in names -%}
        {%- do texts.append("'" ~ name ~ "=' || coalesce(cast(" ~ relation ~ '.' ~ adapter.quote(name) ~ " as varchar), '')") -%}
    {%- endfor -%}
    case
        when {{ relation }}.customer_id is not null
            then {{ churn_radar.array_of(texts) }}
    end
    {%- endif -%}
{% endmacro %}
