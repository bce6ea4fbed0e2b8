{#-
    Reads raw columns: text, ids, moments and numbers. A reading depends on the column's type in the shop, known when SQL is
    compiled, and neither on the session's time zone nor on other rows; it never fails.
-#}

{#- 'text', 'number' or 'timestamp' for a warehouse's type; other types are returned unchanged. -#}
{% macro type_family(type) %}
    {% set name = type if type.endswith(']') else type.split('(')[0] %}
    {% if name in ['VARCHAR', 'TEXT', 'CHAR', 'CHARACTER', 'CHARACTER VARYING', 'STRING', 'ENUM'] %}
        {{ return('text') }}
    {% elif name == 'DATE' or name.startswith('TIMESTAMP') %}
        {{ return('timestamp') }}
    {% elif name in ['DECIMAL', 'NUMERIC', 'FLOAT', 'DOUBLE', 'REAL'] or name.endswith('INT') or name == 'INTEGER' %}
        {{ return('number') }}
    {% endif %}
    {{ return(type) }}
{% endmacro %}


{#-
    A raw column of type `type`, quoted as `expression`, as its column of the contract says; `numbers` are the kinds of ids
    that numeric_ids returns.
-#}
{% macro read_column(column, expression, type, numbers=[]) -%}
    {%- if column.data_type == 'timestamp' -%} {{ churn_radar.read_moment(expression, type) }}
    {%- elif column.data_type == 'double' -%} {{ churn_radar.read_number(expression, type) }}
    {%- elif column.meta.get('pii') == 'words' -%} {{ churn_radar.as_text(expression) }}
    {%- elif column.meta.get('id') -%} {{ churn_radar.read_id(expression, type, column.meta.id in numbers) }}
    {%- elif column.meta.get('code') -%} lower({{ churn_radar.read_text(expression, type) }})
    {%- else -%} {{ churn_radar.read_text(expression, type) }}
    {%- endif -%}
{%- endmacro %}


{#- Null of a data type of the contract. -#}
{% macro null_of(data_type) %}cast(null as {{ churn_radar.type_string() if data_type == 'varchar' else data_type }}){% endmacro %}


{#- Text without white space around it; null for what is written where there is no value: '', nan, None, null, <NA>, NaT. -#}
{% macro read_text(expression, type) -%}
    {%- set text = churn_radar.as_text(expression) if not type.startswith('VARCHAR') else expression -%}
    {%- set trimmed = "trim(both ' \\t\\r\\n' from " ~ text ~ ')' if churn_radar.is_spark() else 'trim(' ~ text ~ ", e' \\t\\r\\n')" -%}
    {%- set absent = "'', 'nan', 'none', 'null', '<na>', 'nat'" -%}
    {%- if churn_radar.type_family(type) != 'text' -%} {{ text }}
    {%- elif churn_radar.is_spark() -%} case when lower({{ trimmed }}) not in ({{ absent }}) then {{ trimmed }} end
    {%- else -%}
    {#-
        Long text without white space, which sorts before '!', at its ends is found many times faster than it is trimmed.
        No IN, of which DuckDB makes a join that reads every row.
    -#}
    case
            when
                strlen({{ text }}) > 4 and {{ text }} >= '!'
                {%- for blank in ["' '", 'chr(9)', 'chr(10)', 'chr(13)'] %} and not ends_with({{ text }}, {{ blank }}){% endfor %}
                then {{ text }}
            when not list_contains([{{ absent }}], lower({{ trimmed }})) then {{ trimmed }}
        end
    {%- endif -%}
{%- endmacro %}


{#-
    An id as text. Whole numbers have no decimals, whatever the type of their column. Where ids of its kind are numbers,
    which have no leading zeros, text has none either: '007' is 7 there, and '007' elsewhere. The service reads ids in the
    same way: inference/warehouse/ids.py.
-#}
{% macro read_id(expression, type, is_number) -%}
    {%- set number = churn_radar.as_double(expression) -%}
    {%- if churn_radar.is_fractional(type) -%}
    case
            when not {{ churn_radar.is_no_id(expression, type) }} then {{ churn_radar.as_text('cast(' ~ number ~ ' as bigint)') }}
            when not isnan({{ number }}) then {{ churn_radar.as_text(expression) }}
        end
    {%- elif churn_radar.type_family(type) == 'text' and is_number -%}
    regexp_replace(
            {{ churn_radar.read_text(expression, type) }},
            '^[+]?(-?)0*([0-9]+)([.]0*)?$',
            '{{ "$1$2" if churn_radar.is_spark() else "\\1\\2" }}'
        )
    {%- else -%} {{ churn_radar.read_text(expression, type) }}
    {%- endif -%}
{%- endmacro %}


{#- Whether a fractional number cannot be an id: it is no whole number, or so large that numbers next to it are left out. -#}
{% macro is_no_id(expression, type) -%}
    {%- set number = churn_radar.as_double(expression) -%}
    (isnan({{ number }}) or {{ number }} <> floor({{ number }}) or abs({{ number }}) >= {{ 2 ** churn_radar.id_bits(type) }})
{%- endmacro %}


{#- Bits of the largest whole numbers that a fractional type holds exactly. -#}
{% macro id_bits(type) %}{{ return(24 if type in ['FLOAT', 'REAL'] else 53) }}{% endmacro %}


{#- Whether a type holds numbers that need not be whole. -#}
{% macro is_fractional(type) %}
    {{ return(type.startswith(('FLOAT', 'DOUBLE', 'REAL', 'DECIMAL', 'NUMERIC')) and not type.endswith(',0)')) }}
{% endmacro %}


{% macro numeric_ids() %}
    {% set kinds = [] %}
    {% for contract in (churn_radar.raw_contracts() if execute else []) %}
        {% set relation = churn_radar.raw_relation(contract.name) %}
        {% set types = churn_radar.column_types(relation) or {} %}
        {% for column in churn_radar.read_columns(contract.name) if column.meta.get('id') not in [none] + kinds %}
            {% set type, quoted = types.get(column.name, ''), adapter.quote(column.name) %}
            {% if churn_radar.type_family(type) == 'number' and run_query(
                'select 1 from ' ~ relation ~ ' as raw_rows where ' ~ churn_radar.read_id(quoted, type, true) ~ ' is not null limit 1'
            ).rows %}
                {% do kinds.append(column.meta.id) %}
            {% endif %}
        {% endfor %}
    {% endfor %}
    {{ return(kinds) }}
{% endmacro %}


{#-
    A timestamp in UTC. Text with an offset, also after a blank, is converted to UTC, and what follows a time otherwise makes
    it unreadable; text without one is UTC as it stands; a date is its midnight; nanoseconds are cut to microseconds.
-#}
{% macro read_moment(expression, type) -%}
    {%- set text = churn_radar.read_text(expression, type) -%}
    {#- '+00' for UTC, no blank before the sign, and a colon within -#}
    {%- set with_offset = "regexp_replace(regexp_replace(regexp_replace(" ~ text
        ~ ", '(?i)\\s*(z|utc|gmt)$', '+00'), '\\s+([-+])', '\\1'), '([-+][0-9]{2})([0-9]{2})$', '\\1:\\2')" -%}
    {%- if churn_radar.is_spark() -%}
        {#- the session's time zone, which timestamp_ltz is read in, is always UTC -#}
        {{ 'cast(try_cast(' ~ text ~ ' as timestamp_ltz) as timestamp)' if churn_radar.type_family(type) == 'text' else 'cast(' ~ expression ~ ' as timestamp)' }}
    {%- elif type == 'TIMESTAMP' -%} {{ expression }}
    {%- elif type == 'TIMESTAMP WITH TIME ZONE' -%} make_timestamp(epoch_us({{ expression }}))
    {%- elif churn_radar.type_family(type) == 'text' -%}
    case
            when regexp_matches({{ expression }}, '(?i):[0-9.]+\s*([-+][0-9:]+|z|utc|gmt)\s*$')
                then make_timestamp(epoch_us(try_cast({{ with_offset }} as timestamptz)))
            else try_cast({{ text }} as timestamp)
        end
    {%- else -%} {{ 'cast' if type == 'TIMESTAMP_NS' else 'try_cast' }}({{ expression }} as timestamp)
    {%- endif -%}
{%- endmacro %}


{#- A number as 64-bit floating point; it may be infinite or no number. -#}
{% macro read_number(expression, type) -%}
    {%- if churn_radar.type_family(type) == 'text' -%} try_cast({{ churn_radar.read_text(expression, type) }} as double)
    {%- else -%} {{ churn_radar.as_double(expression) }}
    {%- endif -%}
{%- endmacro %}


{% macro today() %}cast({{ churn_radar.now_utc() }} as date){% endmacro %}


{#- The time at which a query runs, in UTC, whatever the session's time zone. -#}
{% macro now_utc() -%}
    {{ 'cast(current_timestamp() as timestamp)' if churn_radar.is_spark() else 'make_timestamp(epoch_us(current_timestamp))' }}
{%- endmacro %}
