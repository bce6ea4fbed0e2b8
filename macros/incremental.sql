{#- Building only what is new: which rows a table keeps, which are built anew, and what they were built with. -#}

{#- Vars that change rows which were built before; they and the SQL itself are what a table was built with. -#}
{% macro vars_of_features() %}
    {% set names = ['churn__horizon_days', 'churn__activity_days', 'churn__history_days', 'churn__complaint_from', 'churn__customer_attributes', 'churn__pseudonymise'] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do names.extend(['churn__' ~ contract.name ~ '_source', 'churn__' ~ contract.name ~ '_columns']) %}
    {% endfor %}
    {{ return(names) }}
{% endmacro %}


{#- A fingerprint of what a model is built with: those vars, its own code and all that it reads, and the encoder of texts. -#}
{% macro built_with() %}
    {% set parts = [] %}
    {% for name in churn_radar.vars_of_features() %}
        {% do parts.append(name ~ '=' ~ var(name, none)) %}
    {% endfor %}
    {% set upstream = churn_radar.upstream_of(model.unique_id, []) %}
    {% for id in upstream | sort %}
        {% do parts.append(graph.nodes[id].checksum.checksum) %}
        {% if id.endswith('.review_embeddings') and id != model.unique_id %}
            {% set node = graph.nodes[id] %}
            {% set embeddings = adapter.get_relation(node.database, node.schema, node.alias) %}
            {% if embeddings is not none %}
                {% do parts.append(run_query('select max(encoder_revision || aspects_revision) from ' ~ embeddings).rows[0][0]) %}
            {% endif %}
        {% endif %}
    {% endfor %}
    {{ return(local_md5(parts | join(';'))) }}
{% endmacro %}

{% macro upstream_of(id, found) %}
    {% if id in graph.nodes and id not in found %}
        {% do found.append(id) %}
        {% for parent in graph.nodes[id].depends_on.nodes or [] %}
            {% do churn_radar.upstream_of(parent, found) %}
        {% endfor %}
    {% endif %}
    {{ return(found) }}
{% endmacro %}


{#- Whether the table of a model holds rows that other settings, other code or another encoder built. -#}
{% macro is_stale() %}
    {{ return(churn_radar.table_comment(this) != churn_radar.built_with()) }}
{% endmacro %}


{#- The comment on a table; it goes with the table, so it tells what this very table was built with. -#}
{% macro table_comment(relation) %}
    {{ return(adapter.dispatch('table_comment', 'churn_radar')(relation)) }}
{% endmacro %}

{% macro duckdb__table_comment(relation) %}
    {% set found = run_query(
        "select comment from duckdb_tables() where database_name = '" ~ relation.database
        ~ "' and schema_name = '" ~ relation.schema ~ "' and table_name = '" ~ relation.identifier ~ "'"
    ).rows %}
    {{ return(found[0][0] if found else none) }}
{% endmacro %}

{% macro postgres__table_comment(relation) %}
    {{ return(run_query("select obj_description(to_regclass('" ~ relation ~ "'), 'pg_class')").rows[0][0]) }}
{% endmacro %}


{% macro spark__table_comment(relation) %}{{ return(adapter.table_comment(relation)) }}{% endmacro %}


{#- Pre-hook: empty a table that is stale; of one that is not, forget the rows of the days that are rebuilt. -#}
{% macro forget(day=none) %}
    {% if not execute or model.config.materialized == 'view' or not churn_radar.is_kept() %}{{ return('') }}{% endif %}
    {% if churn_radar.is_stale() %}{{ return(churn_radar.keep_rows('false')) }}{% endif %}
    {% set since = churn_radar.rebuilt_from(day) if day else none %}
    {{ return(churn_radar.keep_rows(day ~ " < cast('" ~ since ~ "' as date)") if since else '') }}
{% endmacro %}


{#- Whether the table of this model was there before and is not made anew. -#}
{% macro is_kept() %}
    {% set built = load_relation(this) %}
    {{ return(built is not none and built.type == 'table' and not should_full_refresh()) }}
{% endmacro %}


{#- Post-hook: note on the table what it was built with; a view holds nothing that could be stale. -#}
{% macro remember() %}
    {% if not execute or model.config.materialized == 'view' %}{{ return('') }}{% endif %}
    {{ return("comment on table " ~ this ~ " is '" ~ churn_radar.built_with() ~ "'") }}
{% endmacro %}


{#- Statement that leaves in the table of this model only the rows that a condition holds for; it must not be null. -#}
{% macro keep_rows(condition) %}
    {{ return(adapter.dispatch('keep_rows', 'churn_radar')(condition)) }}
{% endmacro %}

{% macro default__keep_rows(condition) %}
    {{ return('delete from ' ~ this ~ ('' if condition == 'false' else ' where not (' ~ condition ~ ')')) }}
{% endmacro %}

{#- Files of Parquet cannot be changed: the table is written anew without those rows, and takes the other's place. -#}
{% macro spark__keep_rows(condition) %}
    {% if execute %}{% do adapter.keep_rows(this, condition) %}{% endif %}
    {{ return('') }}
{% endmacro %}


{#- Statement that gives a column of the table of this model another value in the rows that a condition holds for. -#}
{% macro change_rows(column, value, condition) %}
    {{ return(adapter.dispatch('change_rows', 'churn_radar')(column, value, condition)) }}
{% endmacro %}

{% macro default__change_rows(column, value, condition) %}
    {{ return('update ' ~ this ~ ' set ' ~ column ~ ' = ' ~ value ~ ' where ' ~ condition) }}
{% endmacro %}

{% macro spark__change_rows(column, value, condition) %}
    {% if execute %}{% do adapter.change_rows(this, column, value, condition) %}{% endif %}
    {{ return('') }}
{% endmacro %}


{#- Post-hook: rows of snapshots that the spine does not hold any more leave. -#}
{% macro keep_snapshots(spine) %}
    {% if not is_incremental() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows(
        'exists (select 1 from ' ~ spine ~ ' as spine where spine.customer_id = ' ~ this ~ '.customer_id'
        ~ ' and spine.as_of_date = ' ~ this ~ '.as_of_date)'
    )) }}
{% endmacro %}


{#- Pre-hook: rows of snapshots that the spine holds because of a contact only leave; they were sampled before. -#}
{% macro keep_sampled(spine) %}
    {% if not execute or not churn_radar.is_kept() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows(
        'not exists (select 1 from ' ~ spine ~ ' as spine where spine.customer_id = ' ~ this ~ '.customer_id'
        ~ ' and spine.as_of_date = ' ~ this ~ '.as_of_date and not spine.is_sampled)'
    )) }}
{% endmacro %}


{#- Post-hook: customers of whom the shop has no row any more leave, however long ago their rows were built. -#}
{% macro keep_customers(relations) %}
    {% if not is_incremental() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows('customer_id in (select customer_id from ' ~ relations | join(' union select customer_id from ') ~ ')')) }}
{% endmacro %}


{#- The day from which on a table of days is rebuilt, churn__lookback_days before the newest that it has; none for all. -#}
{% macro rebuilt_from(day) %}
    {% if not execute or not is_incremental() or churn_radar.is_stale() %}{{ return(none) }}{% endif %}
    {% set newest = run_query('select max(' ~ day ~ ') from ' ~ this).rows[0][0] %}
    {{ return(newest - modules.datetime.timedelta(days=var('churn__lookback_days')) if newest else none) }}
{% endmacro %}


{#-
    CTEs that leave of dated `rows` only those of the customers' days to rebuild: those that arrived from `since` on,
    and older ones that a correction ended since then. Rows that were corrected on the day they arrived count never.
-#}
{% macro changed_days(rows, since) %}
    {%- if since %}
    changed_keys as (
        select customer_id, activity_date, arrived_date
        from {{ rows }}
        where arrived_date >= cast('{{ since }}' as date) or superseded_date >= cast('{{ since }}' as date)
        union distinct
        select customer_id, activity_date, arrived_date
        from {{ this }}
        where superseded_date >= cast('{{ since }}' as date)
    ),

    changed_{{ rows }} as (
        select {{ rows }}.*
        from {{ rows }}
        inner join changed_keys
            on
                {{ rows }}.customer_id = changed_keys.customer_id
                and {{ rows }}.activity_date = changed_keys.activity_date
                and {{ rows }}.arrived_date = changed_keys.arrived_date
        where {{ rows }}.superseded_date is null or {{ rows }}.superseded_date > {{ rows }}.arrived_date
    )
    {%- else %}
    changed_{{ rows }} as (
        select *
        from {{ rows }}
        where superseded_date is null or superseded_date > arrived_date
    )
    {%- endif %}
{% endmacro %}


{#- Snapshots that a feature table lacks, and those that rows without an arrival time may have changed. -#}
{% macro snapshots_to_build() %}
    select spine.*
    from {{ ref('int_customer_snapshots') }} as spine
    {%- if is_incremental() %}
    left join {{ this }} as built on spine.customer_id = built.customer_id and spine.as_of_date = built.as_of_date
    where built.customer_id is null or {{ churn_radar.is_rebuilt('spine.as_of_date', ref('int_customer_snapshots')) }}
    {%- endif %}
{% endmacro %}


{#- The last date of the snapshot grid at or before a day. 1970-01-05 is a Monday: the grid is fixed to the calendar. -#}
{% macro grid_day(day) -%}
    {{ churn_radar.add_days(day, 'cast(-(' ~ churn_radar.days_between("cast('1970-01-05' as date)", day) ~ ' % ' ~ var('churn__snapshot_every_days') ~ ') as integer)') }}
{%- endmacro %}


{#- Whether an as-of date lies in the lookback window that ends with the newest of `dates`. -#}
{% macro is_rebuilt(as_of_date, dates) -%}
    {{ as_of_date }} between
    (select {{ churn_radar.add_days('max(as_of_date)', -var('churn__lookback_days')) }} from {{ dates }} where is_newest)
    and (select max(as_of_date) from {{ dates }} where is_newest)
{%- endmacro %}


{#- A power of two that is at least `ratio`, and at least 1. -#}
{% macro power_of_two(ratio) -%}
    cast(power(2, ceil({{ churn_radar.log2('greatest(' ~ ratio ~ ', 1)') }})) as bigint)
{%- endmacro %}


{#-
    One active customer in how many a snapshot of `dates` holds: all, or as few as keep all training dates together
    within churn__training_rows; 0 for none. A power of two, so that a growing shop changes it rarely and the samples
    are nested.
-#}
{% macro one_in(dates, rows) -%}
    case
        when {{ dates }}.holds_all then 1
        when {{ dates }}.is_training then {{ churn_radar.power_of_two(rows ~ ' * 1.0 / ' ~ var('churn__training_rows')) }}
        else 0
    end
{%- endmacro %}


{#- On-run-end: dbt-duckdb leaves what incremental Python models write in between as a table of each run; they go. -#}
{% macro drop_leftovers() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {{ return(adapter.dispatch('drop_leftovers', 'churn_radar')()) }}
{% endmacro %}

{% macro default__drop_leftovers() %}{{ return('') }}{% endmacro %}

{% macro duckdb__drop_leftovers() %}
    {% set drops = [] %}
    {% for row in run_query(
        "select schema_name, table_name from duckdb_tables() where database_name = current_database() and not temporary"
        ~ " and regexp_matches(table_name, '__dbt_tmp[0-9]+$')"
    ).rows %}
        {% do drops.append('drop table ' ~ adapter.quote(row[0]) ~ '.' ~ adapter.quote(row[1])) %}
    {% endfor %}
    {{ return(drops | join(';\n')) }}
{% endmacro %}
