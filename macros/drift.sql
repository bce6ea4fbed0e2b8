{#- Drift by the population stability index (PSI) over bins, with its critical value for the sample sizes. -#}

{% macro psi(now, then) -%}
    sum((greatest({{ now }}, 0.0001) - greatest({{ then }}, 0.0001)) * ln(greatest({{ now }}, 0.0001) / greatest({{ then }}, 0.0001)))
{%- endmacro %}


{% macro psi_critical_value(bins, customers, reference_customers) -%}
    case
        when {{ bins }} < 2 then 0
        else
            (1e0 / {{ customers }} + 1e0 / {{ reference_customers }}) * ({{ bins }} - 1)
            * power(1 - 2e0 / (9 * ({{ bins }} - 1)) + 3.0902323 * sqrt(2e0 / (9 * ({{ bins }} - 1))), 3)
    end
{%- endmacro %}


{% macro psi_band(psi) -%}
    case
        when {{ psi }} < 0.1 then 'stable'
        when {{ psi }} < 0.25 then 'shifted'
        when {{ psi }} is not null then 'drifted'
    end
{%- endmacro %}


{% macro is_unusual(psi, critical_value, usual) -%}
    coalesce({{ psi }} >= {{ var('churn__drift_limit') }} and {{ psi }} > {{ critical_value }} and {{ psi }} > 1.25 * {{ usual }}, false)
{%- endmacro %}


{% macro is_in_bin(value, bins) -%}
    {{ bins }}.is_missing = ({{ value }} is null)
    and ({{ bins }}.above is null or {{ value }} > {{ bins }}.above)
    and ({{ bins }}.up_to is null or {{ value }} <= {{ bins }}.up_to)
{%- endmacro %}


{% macro numeric_features(service) %}
    {% set features = {} %}
    {% if execute %}
        {% for node in graph.nodes.values() if (node.config.meta or {}).get('feast', {}).get('service') == service %}
            {% set numbers = node.columns.values() | selectattr('data_type', 'in', ['bigint', 'integer', 'double']) %}
            {% do features.update({node.name: numbers | map(attribute='name') | list}) %}
        {% endfor %}
    {% endif %}
    {{ return(features) }}
{% endmacro %}


{% macro unpivot(relation, keys, columns) %}
    {%- if churn_radar.is_spark() %}
    {#- stack, because a select per column makes view definitions too long for the Derby metastore of local sessions -#}
    {%- set values = [] %}
    {%- for column in columns %}{% do values.append("'" ~ column ~ "', cast(" ~ column ~ " as double)") %}{% endfor %}
    select
        {{ keys | join(', ') }},
        stack({{ columns | length }}, {{ values | join(', ') }}) as (feature, value)
    from {{ relation }}
    {%- else %}
    {%- for column in columns %}
    select
        {{ keys | join(', ') }},
        '{{ column }}' as feature,
        cast({{ column }} as double) as value
    from {{ relation }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
    {%- endif %}
{% endmacro %}
