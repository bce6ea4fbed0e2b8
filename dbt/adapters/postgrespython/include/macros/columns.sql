{#- Columns with types that a cast can name; information_schema calls every array ARRAY. -#}
{% macro postgrespython__get_columns_in_relation(relation) -%}
    {% call statement('get_columns_in_relation', fetch_result=True) %}
        select
            attributes.attname as column_name,
            format_type(attributes.atttypid, attributes.atttypmod) as data_type,
            cast(null as integer) as character_maximum_length,
            cast(null as integer) as numeric_precision,
            cast(null as integer) as numeric_scale
        from pg_attribute as attributes
        where
            attributes.attrelid = to_regclass('{{ relation.include(database=false) }}')
            and attributes.attnum > 0
            and not attributes.attisdropped
        order by attributes.attnum
    {% endcall %}
    {{ return(sql_convert_columns_in_relation(load_result('get_columns_in_relation').table)) }}
{% endmacro %}
