{#- SQL that differs between warehouses; each public macro only dispatches to the adapter's version. JSON is in json.sql. -#}

{#- The string type, and the type of arrays of strings. -#}
{% macro type_string() %}
    {{- return(adapter.dispatch('type_string', 'churn_radar')()) -}}
{% endmacro %}

{% macro default__type_string() %}{{ return('varchar') }}{% endmacro %}

{% macro spark__type_string() %}{{ return('string') }}{% endmacro %}

{% macro type_string_array() %}
    {{- return(adapter.dispatch('type_string_array', 'churn_radar')()) -}}
{% endmacro %}

{% macro default__type_string_array() %}{{ return('varchar[]') }}{% endmacro %}

{% macro spark__type_string_array() %}{{ return('array<string>') }}{% endmacro %}


{#- Cast an array to 32-bit floats. -#}
{% macro as_float_array(expression) %}
    {{- return(adapter.dispatch('as_float_array', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__as_float_array(expression) %}cast({{ expression }} as real[]){% endmacro %}

{% macro spark__as_float_array(expression) %}cast({{ expression }} as array<float>){% endmacro %}


{#- Cast a number to 64-bit floating point. -#}
{% macro as_double(expression) -%}
    cast({{ expression }} as double)
{%- endmacro %}


{#- Cast a value to the string type. -#}
{% macro as_text(expression) -%}
    cast({{ expression }} as {{ churn_radar.type_string() }})
{%- endmacro %}


{#- Cast a raw column of type `source_type` to the contract's `data_type`. -#}
{% macro read_as(expression, source_type, data_type) %}
    {{- return(adapter.dispatch('read_as', 'churn_radar')(expression, source_type, data_type)) -}}
{% endmacro %}

{% macro default__read_as(expression, source_type, data_type) -%}
    cast({{ expression }} as {{ data_type }})
{%- endmacro %}

{#- By way of timestamp_ltz, so that an offset in the string is converted to UTC, the session's time zone. -#}
{% macro spark__read_as(expression, source_type, data_type) -%}
    {%- if data_type == 'varchar' -%} cast({{ expression }} as string)
    {%- elif data_type == 'timestamp' and churn_radar.is_text_type(source_type) -%}
        cast(cast({{ expression }} as timestamp_ltz) as timestamp)
    {%- else -%} {{ churn_radar.default__read_as(expression, source_type, data_type) }}
    {%- endif -%}
{%- endmacro %}


{#- Whether a string cannot be cast to the contract's `data_type`. -#}
{% macro is_unreadable(text, data_type) %}
    {{- return(adapter.dispatch('is_unreadable', 'churn_radar')(text, data_type)) -}}
{% endmacro %}

{% macro default__is_unreadable(text, data_type) -%}
    try_cast({{ text }} as {{ data_type }}) is null
{%- endmacro %}

{% macro spark__is_unreadable(text, data_type) -%}
    try_cast({{ text }} as {{ 'timestamp_ltz' if data_type == 'timestamp' else data_type }}) is null
{%- endmacro %}

{#- Number of days from one date to a later one. -#}
{% macro days_between(earlier, later) %}
    {{- return(adapter.dispatch('days_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro default__days_between(earlier, later) %}({{ later }} - {{ earlier }}){% endmacro %}

{% macro spark__days_between(earlier, later) %}datediff({{ later }}, {{ earlier }}){% endmacro %}


{#- Add `days`, an integer or integer expression, to a date. -#}
{% macro add_days(date, days) %}
    {{- return(adapter.dispatch('add_days', 'churn_radar')(date, days)) -}}
{% endmacro %}

{% macro default__add_days(date, days) %}({{ date }} + {{ days }}){% endmacro %}

{% macro spark__add_days(date, days) %}date_add({{ date }}, {{ days }}){% endmacro %}


{#- One row per day from `first` to `last` (inclusive, scalar expressions) in a column named `day`. -#}
{% macro days_from_to(first, last) %}
    {{- return(adapter.dispatch('days_from_to', 'churn_radar')(first, last)) -}}
{% endmacro %}

{% macro default__days_from_to(first, last) %}
    select cast(series.moment as date) as day
    from generate_series(cast({{ first }} as timestamp), cast({{ last }} as timestamp), interval '1' day) as series (moment)
{% endmacro %}


{% macro spark__days_from_to(first, last) %}
    select explode(sequence({{ first }}, {{ last }}, interval '1' day)) as day
{% endmacro %}


{#- Whether a double is finite and below 10^12 in absolute value; null for null. -#}
{% macro is_plausible_number(expression) %}
    {{- return(adapter.dispatch('is_plausible_number', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__is_plausible_number(expression) %}(isfinite({{ expression }}) and abs({{ expression }}) < 1e12){% endmacro %}

{% macro spark__is_plausible_number(expression) %}(abs({{ expression }}) < 1e12){% endmacro %}


{#-
    Cast to a fixed-point number with four decimals. A sum of doubles depends on the order in which threads add them,
    and one differing bit can move a customer across a tree's split; a sum of fixed-point numbers is reproducible.
-#}
{% macro fixed_point(expression) %}cast({{ expression }} as decimal(18, 4)){% endmacro %}


{#- Mean of fixed-point numbers, bit-identical in every warehouse; null without values. -#}
{% macro mean(expression) -%}
    {{ churn_radar.as_double('sum(' ~ expression ~ ')') }} / nullif(count({{ expression }}), 0)
{%- endmacro %}


{#- Hash of a string from 0 to 2^32 - 1, the same on every run, machine and warehouse. -#}
{% macro stable_hash(text) %}
    {{- return(adapter.dispatch('stable_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro duckdb__stable_hash(text) %}cast('0x' || substr(md5({{ text }}), 1, 8) as bigint){% endmacro %}

{% macro spark__stable_hash(text) %}cast(conv(substr(md5({{ text }}), 1, 8), 16, 10) as bigint){% endmacro %}


{#- Base-2 logarithm, exact for powers of two. -#}
{% macro log2(expression) %}
    {{- return(adapter.dispatch('log2', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__log2(expression) %}log2({{ expression }}){% endmacro %}

{#- rounded: Spark divides two logarithms, which leaves an error in the last bits -#}
{% macro spark__log2(expression) %}round(log2({{ expression }}), 12){% endmacro %}


{#- Inverse logit: the probability for given log-odds. -#}
{% macro probability(logit) %}
    {{- return(adapter.dispatch('probability', 'churn_radar')(logit)) -}}
{% endmacro %}

{% macro default__probability(logit) %}1 / (1 + exp(-{{ logit }})){% endmacro %}


{#- Fast 64-bit hash of a string; differs between warehouses and their versions. -#}
{% macro fast_hash(text) %}
    {{- return(adapter.dispatch('fast_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro duckdb__fast_hash(text) %}hash({{ text }}){% endmacro %}

{% macro spark__fast_hash(text) %}xxhash64({{ text }}){% endmacro %}


{#- ISO day of week: Monday is 1, Sunday is 7. -#}
{% macro day_of_week(date) %}
    {{- return(adapter.dispatch('day_of_week', 'churn_radar')(date)) -}}
{% endmacro %}

{% macro default__day_of_week(date) %}extract(isodow from {{ date }}){% endmacro %}

{% macro spark__day_of_week(date) %}(weekday({{ date }}) + 1){% endmacro %}


{#- Seconds from one timestamp to a later one, rounded half to even. -#}
{% macro seconds_between(earlier, later) %}
    {{- return(adapter.dispatch('seconds_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro duckdb__seconds_between(earlier, later) %}cast(extract(epoch from ({{ later }} - {{ earlier }})) as bigint){% endmacro %}


{#- rint rounds half to even like DuckDB -#}
{% macro spark__seconds_between(earlier, later) -%}
    cast(rint(cast({{ churn_radar.microseconds(later) }} - {{ churn_radar.microseconds(earlier) }} as double) / 1000000) as bigint)
{%- endmacro %}


{#- Microseconds from 1970-01-01 to a timestamp. -#}
{% macro microseconds(moment) %}
    {{- return(adapter.dispatch('microseconds', 'churn_radar')(moment)) -}}
{% endmacro %}

{% macro duckdb__microseconds(moment) %}epoch_us({{ moment }}){% endmacro %}

{% macro spark__microseconds(moment) %}unix_micros(cast({{ moment }} as timestamp_ltz)){% endmacro %}


{#- An array of the given expressions. -#}
{% macro array_of(expressions) %}
    {{- return(adapter.dispatch('array_of', 'churn_radar')(expressions)) -}}
{% endmacro %}

{% macro default__array_of(expressions) %}array[{{ expressions | join(', ') }}]{% endmacro %}

{% macro spark__array_of(expressions) %}array({{ expressions | join(', ') }}){% endmacro %}


{#- The values of a group as an array ordered by `order_by`. -#}
{% macro ordered_array(value, order_by) %}
    {{- return(adapter.dispatch('ordered_array', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__ordered_array(value, order_by) %}array_agg({{ value }} order by {{ order_by }}){% endmacro %}

{#- sort structs by their first field, the key -#}
{% macro spark__ordered_array(value, order_by) -%}
    transform(array_sort(collect_list(named_struct('key', struct({{ order_by }}), 'value', {{ value }}))), x -> x.value)
{%- endmacro %}


{#- The arrays of a group concatenated in the order of `order_by`. -#}
{% macro concatenated_arrays(arrays, order_by) %}
    {{- return(adapter.dispatch('concatenated_arrays', 'churn_radar')(arrays, order_by)) -}}
{% endmacro %}

{% macro default__concatenated_arrays(arrays, order_by) %}flatten(array_agg({{ arrays }} order by {{ order_by }})){% endmacro %}

{% macro spark__concatenated_arrays(arrays, order_by) %}flatten({{ churn_radar.spark__ordered_array(arrays, order_by) }}){% endmacro %}


{#- The group's first value by the `order_by` expressions, which must not be null; ties must have equal values. -#}
{% macro first_by(value, order_by) %}
    {{- return(adapter.dispatch('first_by', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__first_by(value, order_by) %}(array_agg({{ value }} order by {{ order_by | join(', ') }}))[1]{% endmacro %}

{#- arg_min needs no list of the whole group -#}
{% macro duckdb__first_by(value, order_by) -%}
    arg_min({{ value }}, {{ order_by[0] if order_by | length == 1 else 'row(' ~ order_by | join(', ') ~ ')' }})
{%- endmacro %}

{% macro spark__first_by(value, order_by) %}min_by({{ value }}, struct({{ order_by | join(', ') }})){% endmacro %}


{#- The 0th to 100th percentiles of a group's values, as an array of 101 numbers. -#}
{% macro percentiles(value) %}
    {{- return(adapter.dispatch('percentiles', 'churn_radar')(value)) -}}
{% endmacro %}

{% macro duckdb__percentiles(value) %}quantile_cont({{ value }}, [i / 100.0 for i in range(101)]){% endmacro %}

{% macro spark__percentiles(value) -%}
    {%- set shares = [] -%}
    {%- for i in range(101) -%}{%- do shares.append((i / 100) ~ 'D') -%}{%- endfor -%}
    percentile({{ value }}, array({{ shares | join(', ') }}))
{%- endmacro %}


{#- Whether a string matches a regular expression. -#}
{% macro matches(text, pattern) %}
    {{- return(adapter.dispatch('matches', 'churn_radar')(text, pattern)) -}}
{% endmacro %}

{% macro default__matches(text, pattern) %}regexp_like({{ text }}, '{{ pattern }}'){% endmacro %}

{% macro duckdb__matches(text, pattern) %}regexp_matches({{ text }}, '{{ pattern }}'){% endmacro %}

