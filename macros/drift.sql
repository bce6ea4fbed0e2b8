{#- How far a distribution moved: the population stability index over bins, with what is usual for its size. -#}

{#-
    The index of one group: a row per bin with the share of customers `now` and `then`. A share below 0.0001 counts
    as 0.0001, so that an empty bin has a logarithm; inference/training/drift_reference.py does the same.
-#}
{% macro psi(now, then) -%}
    sum((greatest({{ now }}, 0.0001) - greatest({{ then }}, 0.0001)) * ln(greatest({{ now }}, 0.0001) / greatest({{ then }}, 0.0001)))
{%- endmacro %}


{#-
    The index that two samples of one distribution exceed once in a thousand times: (1 / n + 1 / m) times chi-squared
    with as many degrees of freedom as there are bins in use less one (Yurdakul and Naranjo 2020), by the
    approximation of Wilson and Hilferty.
-#}
{% macro psi_by_chance(bins, customers, reference_customers) -%}
    case
        when {{ bins }} < 2 then 0
        else
            (1e0 / {{ customers }} + 1e0 / {{ reference_customers }}) * ({{ bins }} - 1)
            * power(1 - 2e0 / (9 * ({{ bins }} - 1)) + 3.0902323 * sqrt(2e0 / (9 * ({{ bins }} - 1))), 3)
    end
{%- endmacro %}


{#- The customary bands of the index: stable below 0.1, shifted below 0.25, else drifted. -#}
{% macro psi_band(psi) -%}
    case
        when {{ psi }} < 0.1 then 'stable'
        when {{ psi }} < 0.25 then 'shifted'
        when {{ psi }} is not null then 'drifted'
    end
{%- endmacro %}


{#-
    Whether an index tells of something that the model has not seen: it is at least churn__drift_limit, more than chance
    gives, and a quarter above the largest of the earlier snapshots that the model learned from.
-#}
{% macro is_unusual(psi, by_chance, usual) -%}
    coalesce({{ psi }} >= {{ var('churn__drift_limit') }} and {{ psi }} > {{ by_chance }} and {{ psi }} > 1.25 * {{ usual }}, false)
{%- endmacro %}


{#- Whether a value lies in a bin of churn_drift_reference; its ends are open where they are null. -#}
{% macro is_in_bin(value, bins) -%}
    {{ bins }}.is_missing = ({{ value }} is null)
    and ({{ bins }}.above is null or {{ value }} > {{ bins }}.above)
    and ({{ bins }}.up_to is null or {{ value }} <= {{ bins }}.up_to)
{%- endmacro %}


{#- The numeric features that a Feast service serves, {table: [columns that its contract calls numbers]}. -#}
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


{#- The rows of `relation` with a row per column: `feature` names it, `value` is null where it is. -#}
{% macro unpivot(relation, keys, columns) %}
    {{- return(adapter.dispatch('unpivot', 'churn_radar')(relation, keys, columns)) -}}
{% endmacro %}

{% macro default__unpivot(relation, keys, columns) %}
    {%- for column in columns %}
    select
        {{ keys | join(', ') }},
        '{{ column }}' as feature,
        cast({{ column }} as {{ churn_radar.type_double() }}) as value
    from {{ relation }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{% endmacro %}

{#- A line per column made texts of views too long for a metastore in Derby, which is where a local session has its own. -#}
{% macro spark__unpivot(relation, keys, columns) %}
    {%- set values = [] %}
    {%- for column in columns %}{% do values.append("'" ~ column ~ "', cast(" ~ column ~ " as double)") %}{% endfor %}
    select
        {{ keys | join(', ') }},
        stack({{ columns | length }}, {{ values | join(', ') }}) as (feature, value)
    from {{ relation }}
{% endmacro %}
