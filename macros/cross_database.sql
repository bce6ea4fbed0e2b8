{#- SQL that warehouses spell differently: a public macro only dispatches. -#}

{#- Whole days from one date to a later one. -#}
{% macro days_between(earlier, later) %}
    {{- return(adapter.dispatch('days_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro default__days_between(earlier, later) %}({{ later }} - {{ earlier }}){% endmacro %}


{#- A date some days later; `days` is an integer or an integer expression. -#}
{% macro add_days(date, days) %}
    {{- return(adapter.dispatch('add_days', 'churn_radar')(date, days)) -}}
{% endmacro %}

{% macro default__add_days(date, days) %}({{ date }} + {{ days }}){% endmacro %}


{#- One row per day, `first` and `last` included, in a column named `day`; both are scalar expressions. -#}
{% macro days_from_to(first, last) %}
    {{- return(adapter.dispatch('days_from_to', 'churn_radar')(first, last)) -}}
{% endmacro %}

{% macro default__days_from_to(first, last) %}
    select cast(series.moment as date) as day
    from generate_series(cast({{ first }} as timestamp), cast({{ last }} as timestamp), interval '1' day) as series (moment)
{% endmacro %}


{#- Whether a double is an ordinary number: not infinity, not NaN, below 10^12; null for null. -#}
{% macro is_ordinary(expression) %}
    {{- return(adapter.dispatch('is_ordinary', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__is_ordinary(expression) %}(isfinite({{ expression }}) and abs({{ expression }}) < 1e12){% endmacro %}


{#-
    A fixed-point number with four decimals. Sums of doubles depend on the order in which threads add, and a last
    bit is enough to send a customer down another branch of a tree; sums of these do not.
-#}
{% macro exact(expression) %}
    {{- return(adapter.dispatch('exact', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__exact(expression) %}cast({{ expression }} as decimal(18, 4)){% endmacro %}


{#- A number from 0 to 2^32 - 1 that depends on the text only, the same on every run and machine. -#}
{% macro stable_hash(text) %}
    {{- return(adapter.dispatch('stable_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro default__stable_hash(text) %}cast('0x' || substr(md5({{ text }}), 1, 8) as bigint){% endmacro %}


{#- A number of 64 bits that depends on the text only; quick, but another on each warehouse and version of it. -#}
{% macro quick_hash(text) %}
    {{- return(adapter.dispatch('quick_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro duckdb__quick_hash(text) %}hash({{ text }}){% endmacro %}


{#- Monday is 1, Sunday is 7. -#}
{% macro day_of_week(date) %}
    {{- return(adapter.dispatch('day_of_week', 'churn_radar')(date)) -}}
{% endmacro %}

{% macro default__day_of_week(date) %}extract(isodow from {{ date }}){% endmacro %}


{#- Whole seconds from one timestamp to a later one. -#}
{% macro seconds_between(earlier, later) %}
    {{- return(adapter.dispatch('seconds_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro default__seconds_between(earlier, later) %}cast(extract(epoch from ({{ later }} - {{ earlier }})) as bigint){% endmacro %}


{#- A JSON object as text, from a mapping of names to SQL expressions; numbers keep all their digits. -#}
{% macro json_object(expressions) %}
    {{- return(adapter.dispatch('json_object', 'churn_radar')(expressions)) -}}
{% endmacro %}

{% macro default__json_object(expressions) -%}
    cast(json_object(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', {{ expression }}{{ ',' if not loop.last }}
        {%- endfor %}
    ) as varchar)
{%- endmacro %}


{#- A JSON object of lists, from a mapping of names to SQL expressions: the values of a group, in an order. -#}
{% macro json_lists(expressions, order_by) %}
    {{- return(adapter.dispatch('json_lists', 'churn_radar')(expressions, order_by)) -}}
{% endmacro %}

{% macro default__json_lists(expressions, order_by) -%}
    json_object(
        {%- for name, expression in expressions.items() %}
        '{{ name }}', array_agg({{ expression }} order by {{ order_by }}){{ ',' if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}


{#- Microseconds from 1970 to a timestamp. -#}
{% macro microseconds(moment) %}
    {{- return(adapter.dispatch('microseconds', 'churn_radar')(moment)) -}}
{% endmacro %}

{% macro default__microseconds(moment) %}epoch_us({{ moment }}){% endmacro %}


{#- The arrays of a group behind each other, in an order. -#}
{% macro flattened(arrays, order_by) %}
    {{- return(adapter.dispatch('flattened', 'churn_radar')(arrays, order_by)) -}}
{% endmacro %}

{% macro default__flattened(arrays, order_by) %}flatten(array_agg({{ arrays }} order by {{ order_by }})){% endmacro %}


{#- The value of a group that comes first by some expressions, none of them null; rows of equal ones have equal values. -#}
{% macro first_by(value, order_by) %}
    {{- return(adapter.dispatch('first_by', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__first_by(value, order_by) %}(array_agg({{ value }} order by {{ order_by | join(', ') }}))[1]{% endmacro %}

{#- without a list of the whole group -#}
{% macro duckdb__first_by(value, order_by) %}arg_min({{ value }}, row({{ order_by | join(', ') }})){% endmacro %}


{#- The 0th to the 100th percentile of the values of a group, as an array. -#}
{% macro percentiles(value) %}
    {{- return(adapter.dispatch('percentiles', 'churn_radar')(value)) -}}
{% endmacro %}

{% macro default__percentiles(value) %}quantile_cont({{ value }}, [i / 100.0 for i in range(101)]){% endmacro %}
