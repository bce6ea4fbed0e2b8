{#- SQL that differs between DuckDB, which also writes to PostgreSQL, and Spark. JSON is in json.sql. -#}

{% macro is_spark() %}{{ return(target.type == 'sparkpython') }}{% endmacro %}


{% macro type_string() %}{{ return('string' if churn_radar.is_spark() else 'varchar') }}{% endmacro %}


{% macro as_double(expression) %}cast({{ expression }} as double){% endmacro %}


{% macro as_text(expression) %}cast({{ expression }} as {{ churn_radar.type_string() }}){% endmacro %}


{% macro days_between(earlier, later) -%}
    {% if churn_radar.is_spark() %}datediff({{ later }}, {{ earlier }}){% else %}({{ later }} - {{ earlier }}){% endif %}
{%- endmacro %}


{% macro add_days(date, days) -%}
    {% if churn_radar.is_spark() %}date_add({{ date }}, {{ days }}){% else %}({{ date }} + {{ days }}){% endif %}
{%- endmacro %}


{% macro days_from_to(first, last) %}
    {%- if churn_radar.is_spark() %}
    select explode(sequence({{ first }}, {{ last }}, interval '1' day)) as day
    {%- else %}
    select cast(series.moment as date) as day
    from generate_series(cast({{ first }} as timestamp), cast({{ last }} as timestamp), interval '1' day) as series (moment)
    {%- endif %}
{% endmacro %}


{% macro fixed_point(expression, digits=18) %}cast({{ expression }} as decimal({{ digits }}, 4)){% endmacro %}


{% macro mean(expression) -%}
    {{ churn_radar.as_double('sum(' ~ expression ~ ')') }} / nullif(count({{ expression }}), 0)
{%- endmacro %}


{% macro stable_hash(text) -%}
    {%- set digits = 'substr(md5(' ~ text ~ '), 1, 8)' -%}
    cast({{ 'conv(' ~ digits ~ ', 16, 10)' if churn_radar.is_spark() else "'0x' || " ~ digits }} as bigint)
{%- endmacro %}


{#- Base-2 logarithm, exact for powers of two: Spark divides two logarithms, which leaves an error in the last bits. -#}
{% macro log2(expression) -%}
    {% if churn_radar.is_spark() %}round(log2({{ expression }}), 12){% else %}log2({{ expression }}){% endif %}
{%- endmacro %}


{% macro fast_hash(text) %}{{ 'xxhash64' if churn_radar.is_spark() else 'hash' }}({{ text }}){% endmacro %}


{% macro day_of_week(date) -%}
    {% if churn_radar.is_spark() %}(weekday({{ date }}) + 1){% else %}extract(isodow from {{ date }}){% endif %}
{%- endmacro %}


{% macro seconds_between(earlier, later) -%}
    {%- if churn_radar.is_spark() -%}
    cast(rint(cast({{ churn_radar.microseconds(later) }} - {{ churn_radar.microseconds(earlier) }} as double) / 1000000) as bigint)
    {%- else -%} cast(extract(epoch from ({{ later }} - {{ earlier }})) as bigint)
    {%- endif -%}
{%- endmacro %}


{% macro microseconds(moment) -%}
    {% if churn_radar.is_spark() %}unix_micros(cast({{ moment }} as timestamp_ltz)){% else %}epoch_us({{ moment }}){% endif %}
{%- endmacro %}


{#- An array of the given expressions. -#}
{% macro array_of(expressions) -%}
    {% if churn_radar.is_spark() %}array({{ expressions | join(', ') }}){% else %}array[{{ expressions | join(', ') }}]{% endif %}
{%- endmacro %}


{% macro ordered_array(value, order_by) -%}
    {%- if churn_radar.is_spark() -%}
    transform(array_sort(collect_list(named_struct('key', struct({{ order_by }}), 'value', {{ value }}))), x -> x.value)
    {%- else -%} array_agg({{ value }} order by {{ order_by }})
    {%- endif -%}
{%- endmacro %}


{#- Several values as one, which compares by the first, then by the second, and so on. -#}
{% macro row_of(expressions) %}{{ 'struct' if churn_radar.is_spark() else 'row' }}({{ expressions | join(', ') }}){% endmacro %}


{% macro first_by(value, order_by) -%}
    {{ 'min_by' if churn_radar.is_spark() else 'arg_min' }}(
        {{- value }}, {{ order_by[0] if order_by | length == 1 else churn_radar.row_of(order_by) }})
{%- endmacro %}


{% macro percentiles(value) -%}
    {%- if churn_radar.is_spark() -%}
    percentile({{ value }}, array({% for i in range(101) %}{{ i / 100 }}D{{ ', ' if not loop.last }}{% endfor %}))
    {%- else -%} quantile_cont({{ value }}, [i / 100.0 for i in range(101)])
    {%- endif -%}
{%- endmacro %}
