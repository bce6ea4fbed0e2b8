{#- SQL that warehouses spell differently: a public macro only dispatches. JSON is in json.sql. -#}

{#- The type of numbers with a floating point and 64 bits; contracts call it double. -#}
{% macro type_double() %}
    {{- return(adapter.dispatch('type_double', 'churn_radar')()) -}}
{% endmacro %}

{% macro default__type_double() %}{{ return('double') }}{% endmacro %}

{% macro postgres__type_double() %}{{ return('double precision') }}{% endmacro %}


{#- The type of texts, and of arrays of them. -#}
{% macro type_string() %}
    {{- return(adapter.dispatch('type_string', 'churn_radar')()) -}}
{% endmacro %}

{% macro default__type_string() %}{{ return('varchar') }}{% endmacro %}

{% macro spark__type_string() %}{{ return('string') }}{% endmacro %}

{% macro type_strings() %}
    {{- return(adapter.dispatch('type_strings', 'churn_radar')()) -}}
{% endmacro %}

{% macro default__type_strings() %}{{ return('varchar[]') }}{% endmacro %}

{% macro spark__type_strings() %}{{ return('array<string>') }}{% endmacro %}


{#- An array as one of numbers with 32 bits. -#}
{% macro as_floats(expression) %}
    {{- return(adapter.dispatch('as_floats', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__as_floats(expression) %}cast({{ expression }} as real[]){% endmacro %}

{% macro spark__as_floats(expression) %}cast({{ expression }} as array<float>){% endmacro %}


{#- A number as one of that type. -#}
{% macro as_double(expression) -%}
    cast({{ expression }} as {{ churn_radar.type_double() }})
{%- endmacro %}


{#- A value as text. -#}
{% macro as_text(expression) -%}
    cast({{ expression }} as {{ churn_radar.type_string() }})
{%- endmacro %}


{#- A raw column of type `found` as the contract's `data_type`. -#}
{% macro read_as(expression, found, data_type) %}
    {{- return(adapter.dispatch('read_as', 'churn_radar')(expression, found, data_type)) -}}
{% endmacro %}

{% macro default__read_as(expression, found, data_type) -%}
    cast({{ expression }} as {{ churn_radar.type_double() if data_type == 'double' else data_type }})
{%- endmacro %}

{#- Texts are compared by their bytes, whatever the database's collation, and have the offset of their moment read. -#}
{% macro postgres__read_as(expression, found, data_type) -%}
    {%- if data_type == 'varchar' -%} cast({{ expression }} as varchar) collate "C"
    {%- elif data_type == 'timestamp' and (found == 'TIMESTAMP WITH TIME ZONE' or churn_radar.is_text_type(found)) -%}
        (cast({{ expression }} as timestamptz) at time zone 'UTC')
    {%- else -%} {{ churn_radar.default__read_as(expression, found, data_type) }}
    {%- endif -%}
{%- endmacro %}

{#- A text has the offset of its moment read on the way to a timestamp without one; sessions are in UTC. -#}
{% macro spark__read_as(expression, found, data_type) -%}
    {%- if data_type == 'varchar' -%} cast({{ expression }} as string)
    {%- elif data_type == 'timestamp' and churn_radar.is_text_type(found) -%}
        cast(cast({{ expression }} as timestamp_ltz) as timestamp)
    {%- else -%} {{ churn_radar.default__read_as(expression, found, data_type) }}
    {%- endif -%}
{%- endmacro %}


{#- Whether a text cannot be read as the contract's `data_type`. -#}
{% macro is_unreadable(text, data_type) %}
    {{- return(adapter.dispatch('is_unreadable', 'churn_radar')(text, data_type)) -}}
{% endmacro %}

{% macro default__is_unreadable(text, data_type) -%}
    try_cast({{ text }} as {{ data_type }}) is null
{%- endmacro %}

{% macro spark__is_unreadable(text, data_type) -%}
    try_cast({{ text }} as {{ 'timestamp_ltz' if data_type == 'timestamp' else data_type }}) is null
{%- endmacro %}

{#- PostgreSQL has no cast that forgives before version 16, and takes words such as yesterday for moments. -#}
{% macro postgres__is_unreadable(text, data_type) %}
    {% do run_query("
        create or replace function pg_temp.is_unreadable(value text, data_type text) returns boolean language plpgsql as $$
        begin
            execute format('select cast(%L as %s)', value, data_type);
            return value ~* '^[[:space:]]*[a-z]' and data_type <> 'double precision';
        exception when others then
            return true;
        end
        $$
    ") %}
    {{- return("pg_temp.is_unreadable(cast(" ~ text ~ " as text), '" ~ {'double': 'double precision', 'timestamp': 'timestamptz'}[data_type] ~ "')") -}}
{% endmacro %}

{#- Whole days from one date to a later one. -#}
{% macro days_between(earlier, later) %}
    {{- return(adapter.dispatch('days_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro default__days_between(earlier, later) %}({{ later }} - {{ earlier }}){% endmacro %}

{% macro spark__days_between(earlier, later) %}datediff({{ later }}, {{ earlier }}){% endmacro %}


{#- A date some days later; `days` is an integer or an integer expression. -#}
{% macro add_days(date, days) %}
    {{- return(adapter.dispatch('add_days', 'churn_radar')(date, days)) -}}
{% endmacro %}

{% macro default__add_days(date, days) %}({{ date }} + {{ days }}){% endmacro %}

{% macro spark__add_days(date, days) %}date_add({{ date }}, {{ days }}){% endmacro %}


{#- One row per day, `first` and `last` included, in a column named `day`; both are scalar expressions. -#}
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


{#- Whether a double is an ordinary number: not infinity, not NaN, below 10^12; null for null. -#}
{% macro is_ordinary(expression) %}
    {{- return(adapter.dispatch('is_ordinary', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__is_ordinary(expression) %}(isfinite({{ expression }}) and abs({{ expression }}) < 1e12){% endmacro %}

{#- NaN is the largest number of all. -#}
{% macro postgres__is_ordinary(expression) %}(abs({{ expression }}) < 1e12){% endmacro %}

{% macro spark__is_ordinary(expression) %}(abs({{ expression }}) < 1e12){% endmacro %}


{#-
    A fixed-point number with four decimals. Sums of doubles depend on the order in which threads add, and a last
    bit is enough to send a customer down another branch of a tree; sums of these do not.
-#}
{% macro exact(expression) %}
    {{- return(adapter.dispatch('exact', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__exact(expression) %}cast({{ expression }} as decimal(18, 4)){% endmacro %}


{#- The mean of such numbers, to the last bit the same in every warehouse; null without any. -#}
{% macro mean(expression) -%}
    {{ churn_radar.as_double('sum(' ~ expression ~ ')') }} / nullif(count({{ expression }}), 0)
{%- endmacro %}


{#- A number from 0 to 2^32 - 1 that depends on the text only, the same on every run and machine. -#}
{% macro stable_hash(text) %}
    {{- return(adapter.dispatch('stable_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro duckdb__stable_hash(text) %}cast('0x' || substr(md5({{ text }}), 1, 8) as bigint){% endmacro %}

{% macro postgres__stable_hash(text) %}cast(cast('x' || substr(md5({{ text }}), 1, 8) as bit(32)) as bigint){% endmacro %}

{% macro spark__stable_hash(text) %}cast(conv(substr(md5({{ text }}), 1, 8), 16, 10) as bigint){% endmacro %}


{#- The logarithm of a number to base 2, exact for powers of two. -#}
{% macro log2(expression) %}
    {{- return(adapter.dispatch('log2', 'churn_radar')(expression)) -}}
{% endmacro %}

{% macro default__log2(expression) %}log2({{ expression }}){% endmacro %}

{% macro postgres__log2(expression) %}log(2, cast({{ expression }} as numeric)){% endmacro %}

{#- a quotient of logarithms, whose last bits are off -#}
{% macro spark__log2(expression) %}round(log2({{ expression }}), 12){% endmacro %}


{#- The probability whose log-odds are given. -#}
{% macro probability(logit) %}
    {{- return(adapter.dispatch('probability', 'churn_radar')(logit)) -}}
{% endmacro %}

{% macro default__probability(logit) %}1 / (1 + exp(-{{ logit }})){% endmacro %}

{#- a number too large or too small for a double is an error -#}
{% macro postgres__probability(logit) %}case when {{ logit }} < -700 then 0 else 1 / (1 + exp(-least({{ logit }}, 700))) end{% endmacro %}


{#- A number of 64 bits that depends on the text only; quick, but another on each warehouse and version of it. -#}
{% macro quick_hash(text) %}
    {{- return(adapter.dispatch('quick_hash', 'churn_radar')(text)) -}}
{% endmacro %}

{% macro duckdb__quick_hash(text) %}hash({{ text }}){% endmacro %}

{% macro postgres__quick_hash(text) %}hashtextextended({{ text }}, 0){% endmacro %}

{% macro spark__quick_hash(text) %}xxhash64({{ text }}){% endmacro %}


{#- Monday is 1, Sunday is 7. -#}
{% macro day_of_week(date) %}
    {{- return(adapter.dispatch('day_of_week', 'churn_radar')(date)) -}}
{% endmacro %}

{% macro default__day_of_week(date) %}extract(isodow from {{ date }}){% endmacro %}

{% macro spark__day_of_week(date) %}(weekday({{ date }}) + 1){% endmacro %}


{#- Whole seconds from one timestamp to a later one. -#}
{% macro seconds_between(earlier, later) %}
    {{- return(adapter.dispatch('seconds_between', 'churn_radar')(earlier, later)) -}}
{% endmacro %}

{% macro duckdb__seconds_between(earlier, later) %}cast(extract(epoch from ({{ later }} - {{ earlier }})) as bigint){% endmacro %}

{#- by way of a double, whose halves are rounded to even, as DuckDB's are -#}
{% macro postgres__seconds_between(earlier, later) %}cast(cast(extract(epoch from ({{ later }} - {{ earlier }})) as double precision) as bigint){% endmacro %}


{#- halves are rounded to even, as DuckDB's are -#}
{% macro spark__seconds_between(earlier, later) -%}
    cast(rint(cast({{ churn_radar.microseconds(later) }} - {{ churn_radar.microseconds(earlier) }} as double) / 1000000) as bigint)
{%- endmacro %}


{#- Microseconds from 1970 to a timestamp. -#}
{% macro microseconds(moment) %}
    {{- return(adapter.dispatch('microseconds', 'churn_radar')(moment)) -}}
{% endmacro %}

{% macro duckdb__microseconds(moment) %}epoch_us({{ moment }}){% endmacro %}

{% macro postgres__microseconds(moment) %}cast(extract(epoch from {{ moment }}) * 1000000 as bigint){% endmacro %}

{% macro spark__microseconds(moment) %}unix_micros(cast({{ moment }} as timestamp_ltz)){% endmacro %}


{#- The values as an array. -#}
{% macro array_of(expressions) %}
    {{- return(adapter.dispatch('array_of', 'churn_radar')(expressions)) -}}
{% endmacro %}

{% macro default__array_of(expressions) %}array[{{ expressions | join(', ') }}]{% endmacro %}

{% macro spark__array_of(expressions) %}array({{ expressions | join(', ') }}){% endmacro %}


{#- The values of a group as an array, in an order. -#}
{% macro list_of(value, order_by) %}
    {{- return(adapter.dispatch('list_of', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__list_of(value, order_by) %}array_agg({{ value }} order by {{ order_by }}){% endmacro %}

{#- one array of rows, sorted by what comes first in them -#}
{% macro spark__list_of(value, order_by) -%}
    transform(array_sort(collect_list(named_struct('key', struct({{ order_by }}), 'value', {{ value }}))), x -> x.value)
{%- endmacro %}


{#- The arrays of a group behind each other, in an order. -#}
{% macro flattened(arrays, order_by) %}
    {{- return(adapter.dispatch('flattened', 'churn_radar')(arrays, order_by)) -}}
{% endmacro %}

{% macro default__flattened(arrays, order_by) %}flatten(array_agg({{ arrays }} order by {{ order_by }})){% endmacro %}

{% macro spark__flattened(arrays, order_by) %}flatten({{ churn_radar.spark__list_of(arrays, order_by) }}){% endmacro %}

{#- arrays of one length make a matrix, whose rows come behind each other -#}
{% macro postgres__flattened(arrays, order_by) %}array(select unnest(array_agg({{ arrays }} order by {{ order_by }}))){% endmacro %}


{#- The value of a group that comes first by some expressions, none of them null; rows of equal ones have equal values. -#}
{% macro first_by(value, order_by) %}
    {{- return(adapter.dispatch('first_by', 'churn_radar')(value, order_by)) -}}
{% endmacro %}

{% macro default__first_by(value, order_by) %}(array_agg({{ value }} order by {{ order_by | join(', ') }}))[1]{% endmacro %}

{#- without a list of the whole group -#}
{% macro duckdb__first_by(value, order_by) -%}
    arg_min({{ value }}, {{ order_by[0] if order_by | length == 1 else 'row(' ~ order_by | join(', ') ~ ')' }})
{%- endmacro %}

{% macro spark__first_by(value, order_by) %}min_by({{ value }}, struct({{ order_by | join(', ') }})){% endmacro %}


{#- The 0th to the 100th percentile of the values of a group, as an array. -#}
{% macro percentiles(value) %}
    {{- return(adapter.dispatch('percentiles', 'churn_radar')(value)) -}}
{% endmacro %}

{% macro duckdb__percentiles(value) %}quantile_cont({{ value }}, [i / 100.0 for i in range(101)]){% endmacro %}

{% macro postgres__percentiles(value) -%}
    percentile_cont(array(select i / 100.0 from generate_series(0, 100) as hundredths (i))) within group (order by {{ value }})
{%- endmacro %}

{% macro spark__percentiles(value) -%}
    {%- set shares = [] -%}
    {%- for i in range(101) -%}{%- do shares.append((i / 100) ~ 'D') -%}{%- endfor -%}
    percentile({{ value }}, array({{ shares | join(', ') }}))
{%- endmacro %}


{#- Whether a text matches a regular expression. -#}
{% macro matches(text, pattern) %}
    {{- return(adapter.dispatch('matches', 'churn_radar')(text, pattern)) -}}
{% endmacro %}

{% macro default__matches(text, pattern) %}regexp_like({{ text }}, '{{ pattern }}'){% endmacro %}

{% macro duckdb__matches(text, pattern) %}regexp_matches({{ text }}, '{{ pattern }}'){% endmacro %}

{% macro postgres__matches(text, pattern) %}({{ text }} ~ '{{ pattern }}'){% endmacro %}
