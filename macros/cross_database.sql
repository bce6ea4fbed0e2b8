{#- SQL that differs between DuckDB, which also writes to PostgreSQL, and Spark. JSON is in json.sql. -#}

{#- Whether dbt builds in Spark. -#}
{% macro is_spark() %}{{ return(target.type == 'sparkpython') }}{% endmacro %}


{#- The string type. -#}
{% macro type_string() %}{{ return('string' if churn_radar.is_spark() else 'varchar') }}{% endmacro %}


{#- Cast an array to 32-bit floats. -#}
{% macro as_float_array(expression) -%}
    cast({{ expression }} as {{ 'array<float>' if churn_radar.is_spark() else 'real[]' }})
{%- endmacro %}


{#- Cast a number to 64-bit floating point. -#}
{% macro as_double(expression) %}cast({{ expression }} as double){% endmacro %}


{#- Cast a value to the string type. -#}
{% macro as_text(expression) %}cast({{ expression }} as {{ churn_radar.type_string() }}){% endmacro %}


{#- Number of days from one date to a later one. -#}
{% macro days_between(earlier, later) -%}
    {% if churn_radar.is_spark() %}datediff({{ later }}, {{ earlier }}){% else %}({{ later }} - {{ earlier }}){% endif %}
{%- endmacro %}


{#- Add `days`, an integer or integer expression, to a date. -#}
{% macro add_days(date, days) -%}
    {% if churn_radar.is_spark() %}date_add({{ date }}, {{ days }}){% else %}({{ date }} + {{ days }}){% endif %}
{%- endmacro %}


{#- One row per day from `first` to `last` (inclusive, scalar expressions) in a column named `day`. -#}
{% macro days_from_to(first, last) %}
    {%- if churn_radar.is_spark() %}
    select explode(sequence({{ first }}, {{ last }}, interval '1' day)) as day
    {%- else %}
    select cast(series.moment as date) as day
    from generate_series(cast({{ first }} as timestamp), cast({{ last }} as timestamp), interval '1' day) as series (moment)
    {%- endif %}
{% endmacro %}


{#- Whether a double is below 10^12 in absolute value, which infinity and NaN are not; null for null. -#}
{% macro is_plausible_number(expression) %}(abs({{ expression }}) < 1e12){% endmacro %}


{#-
    Cast to a fixed-point number with four decimals, by default below 10^14. A sum of doubles depends on the order in which
    threads add them, and one differing bit can move a customer across a tree's split; a sum of fixed-point numbers is
    reproducible.
-#}
{% macro fixed_point(expression, digits=18) %}cast({{ expression }} as decimal({{ digits }}, 4)){% endmacro %}


{#- Mean of fixed-point numbers, bit-identical in every warehouse; null without values. -#}
{% macro mean(expression) -%}
    {{ churn_radar.as_double('sum(' ~ expression ~ ')') }} / nullif(count({{ expression }}), 0)
{%- endmacro %}


{#- Hash of a string from 0 to 2^32 - 1, the same on every run, machine and warehouse. -#}
{% macro stable_hash(text) -%}
    {%- set digits = 'substr(md5(' ~ text ~ '), 1, 8)' -%}
    cast({{ 'conv(' ~ digits ~ ', 16, 10)' if churn_radar.is_spark() else "'0x' || " ~ digits }} as bigint)
{%- endmacro %}


{#- Base-2 logarithm, exact for powers of two: Spark divides two logarithms, which leaves an error in the last bits. -#}
{% macro log2(expression) -%}
    {% if churn_radar.is_spark() %}round(log2({{ expression }}), 12){% else %}log2({{ expression }}){% endif %}
{%- endmacro %}


{#- Fast 64-bit hash of a string; differs between warehouses and their versions. -#}
{% macro fast_hash(text) %}{{ 'xxhash64' if churn_radar.is_spark() else 'hash' }}({{ text }}){% endmacro %}


{#- ISO day of week: Monday is 1, Sunday is 7. -#}
{% macro day_of_week(date) -%}
    {% if churn_radar.is_spark() %}(weekday({{ date }}) + 1){% else %}extract(isodow from {{ date }}){% endif %}
{%- endmacro %}


{#- Seconds from one timestamp to a later one, rounded half to even. -#}
{% macro seconds_between(earlier, later) -%}
    {%- if churn_radar.is_spark() -%}
    cast(rint(cast({{ churn_radar.microseconds(later) }} - {{ churn_radar.microseconds(earlier) }} as double) / 1000000) as bigint)
    {%- else -%} cast(extract(epoch from ({{ later }} - {{ earlier }})) as bigint)
    {%- endif -%}
{%- endmacro %}


{#- Microseconds from 1970-01-01 to a timestamp. -#}
{% macro microseconds(moment) -%}
    {% if churn_radar.is_spark() %}unix_micros(cast({{ moment }} as timestamp_ltz)){% else %}epoch_us({{ moment }}){% endif %}
{%- endmacro %}


{#- An array of the given expressions. -#}
{% macro array_of(expressions) -%}
    {% if churn_radar.is_spark() %}array({{ expressions | join(', ') }}){% else %}array[{{ expressions | join(', ') }}]{% endif %}
{%- endmacro %}


{#- The values of a group as an array ordered by `order_by`; Spark sorts structs by their first field, the key. -#}
{% macro ordered_array(value, order_by) -%}
    {%- if churn_radar.is_spark() -%}
    transform(array_sort(collect_list(named_struct('key', struct({{ order_by }}), 'value', {{ value }}))), x -> x.value)
    {%- else -%} array_agg({{ value }} order by {{ order_by }})
    {%- endif -%}
{%- endmacro %}


{#- Several values as one, which compares by the first, then by the second, and so on. -#}
{% macro row_of(expressions) %}{{ 'struct' if churn_radar.is_spark() else 'row' }}({{ expressions | join(', ') }}){% endmacro %}


{#-
    The group's first value by the `order_by` expressions, which must not be null; ties must have equal values.
    Minimum functions need no list of the whole group.
-#}
{% macro first_by(value, order_by) -%}
    {{ 'min_by' if churn_radar.is_spark() else 'arg_min' }}(
        {{- value }}, {{ order_by[0] if order_by | length == 1 else churn_radar.row_of(order_by) }})
{%- endmacro %}


{#- The 0th to 100th percentiles of a group's values, as an array of 101 numbers. -#}
{% macro percentiles(value) -%}
    {%- if churn_radar.is_spark() -%}
    percentile({{ value }}, array({% for i in range(101) %}{{ i / 100 }}D{{ ', ' if not loop.last }}{% endfor %}))
    {%- else -%} quantile_cont({{ value }}, [i / 100.0 for i in range(101)])
    {%- endif -%}
{%- endmacro %}
