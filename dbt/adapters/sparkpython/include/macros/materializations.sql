{#- Run hooks in order; Spark has no transactions. -#}
{% macro sparkpython_run_hooks(hooks) %}
    {% for hook in hooks %}
        {% set rendered = render(hook.get('sql')) | trim %}
        {% if rendered %}
            {% call statement(auto_begin=false) %}{{ rendered }}{% endcall %}
        {% endif %}
    {% endfor %}
{% endmacro %}


{#- Statement that creates the table of an SQL or Python model under a temporary name. -#}
{% macro sparkpython_create_table(relation, compiled_code, language) %}
    {%- if language == 'python' -%}
    create table {{ relation }} {{ file_format_clause() }} as select * from {{ adapter.run_python_model(model) }} as made
    {%- else -%}
    {{ create_table_as(false, relation, compiled_code) }}
    {%- endif -%}
{% endmacro %}


{% materialization table, adapter='sparkpython', supported_languages=['sql', 'python'] %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set new_relation = adapter.new_relation(this) -%}
    {% do sparkpython_run_hooks(pre_hooks) %}
    {% call statement('drop_new') %}drop table if exists {{ new_relation }}{% endcall %}
    {% call statement('main') %}{{ sparkpython_create_table(new_relation, compiled_code, model.language) }}{% endcall %}
    {% do adapter.put_in_place(this) %}
    {% if model.language == 'python' %}{% do adapter.forget_python_model(model) %}{% endif %}
    {% do persist_docs(target_relation, model) %}
    {% do sparkpython_run_hooks(post_hooks) %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}


{#-
    New rows are written to a table of their own; then the model's table is rewritten from the new rows and those old
    rows whose keys are not among them.
-#}
{% materialization incremental, adapter='sparkpython', supported_languages=['sql', 'python'] %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing_relation = load_relation(this) -%}
    {%- set is_kept = existing_relation is not none and existing_relation.type == 'table' and not should_full_refresh() -%}
    {%- set new_relation = adapter.new_relation(this) -%}
    {%- set added_relation = adapter.new_relation(new_relation) if is_kept else new_relation -%}
    {% do sparkpython_run_hooks(pre_hooks) %}
    {% call statement('drop_added') %}drop table if exists {{ added_relation }}{% endcall %}
    {% call statement('main') %}{{ sparkpython_create_table(added_relation, compiled_code, model.language) }}{% endcall %}
    {% if is_kept %}
        {% do process_schema_changes(incremental_validate_on_schema_change(config.get('on_schema_change'), default='ignore'), added_relation, existing_relation) %}
        {%- set columns = adapter.get_columns_in_relation(existing_relation) | map(attribute='quoted') | join(', ') -%}
        {%- set key = config.get('unique_key') -%}
        {%- set matches = [] -%}
        {%- for column in ([key] if key is string else key) -%}
            {%- do matches.append('kept.' ~ column ~ ' = added.' ~ column) -%}
        {%- endfor -%}
        {% do adapter.rewrite(
            this,
            'select ' ~ columns ~ ' from ' ~ this ~ ' as kept where not exists (select 1 from ' ~ added_relation ~ ' as added where '
            ~ matches | join(' and ') ~ ') union all select ' ~ columns ~ ' from ' ~ added_relation
        ) %}
        {% call statement('drop_added') %}drop table {{ added_relation }}{% endcall %}
    {% else %}
        {% do adapter.put_in_place(this) %}
    {% endif %}
    {% if model.language == 'python' %}{% do adapter.forget_python_model(model) %}{% endif %}
    {% do persist_docs(target_relation, model) %}
    {% do sparkpython_run_hooks(post_hooks) %}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
