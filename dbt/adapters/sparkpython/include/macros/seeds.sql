{#- Create the table of a seed; column types may be spelled as in contracts. -#}
{% macro sparkpython__create_csv_table(model, agate_table) %}
    {%- set types = model['config'].get('column_types', {}) -%}
    {% call statement('create_csv_table') %}
    create table {{ this }} (
        {%- for name in agate_table.column_names %}
        {{ adapter.quote(name) }} {{ api.Column.translate_type(types.get(name, adapter.convert_type(agate_table, loop.index0))) }}{{ ',' if not loop.last }}
        {%- endfor %}
    ) {{ file_format_clause() }}
    {% endcall %}
    {{ return('') }}
{% endmacro %}

{#- Insert the rows of a seed as literals, as a Spark session cannot bind parameters. -#}
{% macro sparkpython__load_csv_rows(model, agate_table) %}
    {%- set types = model['config'].get('column_types', {}) -%}
    {% set sql %}
    insert into {{ this }} values
        {%- for row in agate_table.rows %}
        (
            {%- for name in agate_table.column_names -%}
            {%- set value = row[name] -%}
            {%- set type = types.get(name, adapter.convert_type(agate_table, loop.index0)) -%}
            {{ cast('null' if value is none else dbt.string_literal(dbt.escape_single_quotes(value | string)), type) | trim }}{{ ', ' if not loop.last }}
            {%- endfor -%}
        ){{ ',' if not loop.last }}
        {%- endfor %}
    {% endset %}
    {% do adapter.add_query(sql, abridge_sql_log=true) %}
    {{ return(sql) }}
{% endmacro %}
