{#- Incremental models: which rows are kept, which are rebuilt, and the fingerprint of code and settings they were built with. -#}


{% macro built_table(name) %}
    {% if not execute %}{{ return(none) }}{% endif %}
    {% set node = graph.nodes['model.churn_radar.' ~ name] %}
    {{ return(adapter.get_relation(node.database, node.schema, node.alias)) }}
{% endmacro %}


{% macro built_before(name, table, columns, now) %}
    {% set relation = churn_radar.built_table(name) %}
    {% if relation is none %}{{ return(none) }}{% endif %}
    {% set fingerprints = (churn_radar.table_comment(relation) or '').split() %}
    {% if fingerprints[1:] != [churn_radar.reading_fingerprint(table)] %}{{ return(none) }}{% endif %}
    {% if fingerprints[0] == churn_radar.build_fingerprint('model.churn_radar.' ~ name) %}{{ return(relation) }}{% endif %}
    {% if (columns + ['known_at', 'superseded_at']) | reject('in', churn_radar.column_types(relation)) | list %}{{ return(none) }}{% endif %}
    {% set key = columns[0] %}
    {% set counts = run_query(
        'select count(*), count(case when built.content <> today.content then 1 end),'
        ~ ' min(case when built.content <> today.content then built.' ~ key ~ ' end)'
        ~ ' from (select ' ~ key ~ ', ' ~ churn_radar.fast_hash(columns | join(', ')) ~ ' as content from ' ~ relation ~ ' where superseded_at is null) as built'
        ~ ' inner join (select ' ~ key ~ ', ' ~ churn_radar.fast_hash(columns | join(', ')) ~ ' as content from (' ~ now ~ ') as staged) as today'
        ~ ' on built.' ~ key ~ ' = today.' ~ key
    ).rows[0] %}
    {% if counts[1] == 0 or counts[1] < counts[0] / 5 %}{{ return(relation) }}{% endif %}
    {% do exceptions.warn(
        table ~ ': ' ~ counts[1] ~ ' of ' ~ counts[0] ~ ' rows are read otherwise than by the code of the last build, for example ' ~ key ~ ' '
        ~ counts[2] ~ '; none is remembered as changed by the shop, and earlier snapshots are built with the new values'
    ) %}
    {{ return(none) }}
{% endmacro %}


{#- Fingerprint of where the rows of a raw table are read from: relation, columns and pseudonyms. -#}
{% macro reading_fingerprint(table) %}
    {% set source, columns = var('churn__' ~ table ~ '_source', none), var('churn__' ~ table ~ '_columns', none) %}
    {{ return(local_md5([source, columns, var('churn__pseudonymise'), churn_radar.raw_columns(table)] | string)) }}
{% endmacro %}


{#- Fingerprint of what determines a model's rows: the vars above, the code of the model, of everything upstream and of their macros, the contracts and columns of the raw tables, and the text encoder. -#}
{% macro build_fingerprint(id=none) %}
    {% set parts = [] %}
    {% set names = ['churn__horizon_days', 'churn__activity_days', 'churn__history_days', 'churn__complaint_from', 'churn__customer_attributes', 'churn__pseudonymise'] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% do names.extend(['churn__' ~ contract.name ~ '_source', 'churn__' ~ contract.name ~ '_columns']) %}
    {% endfor %}
    {% for name in names %}
        {% do parts.append(name ~ '=' ~ var(name, none)) %}
    {% endfor %}
    {% do parts.append('text' in var('churn__enabled')) %}
    {% set upstream = churn_radar.upstream_of(id or model.unique_id, []) %}
    {% set macros = [] %}
    {% for id in upstream | sort %}
        {% do parts.append(graph.nodes[id].checksum.checksum) %}
        {% do churn_radar.macros_used(graph.nodes[id].depends_on.macros, macros) %}
        {% if id.endswith('.review_embeddings') and id != model.unique_id %}
            {% set embeddings = churn_radar.built_table('review_embeddings') %}
            {% if embeddings is not none %}
                {% do parts.append(run_query('select max(encoder_revision || aspects_revision) from ' ~ embeddings).rows[0][0]) %}
            {% endif %}
        {% endif %}
    {% endfor %}
    {% if 'model.churn_radar.sequence_features' in upstream %}{% do parts.append(var('churn__transformer')) %}{% endif %}
    {% for contract in churn_radar.raw_contracts() if 'model.churn_radar.stg_' ~ contract.name in upstream %}
        {% do parts.append([contract.meta, contract.columns.values() | map(attribute='meta') | list] | string) %}
    {% endfor %}
    {#- features of a table or column that the shop lacks are null -#}
    {% set raw_tables = churn_radar.built_table('int_raw_tables') %}
    {% if raw_tables is not none %}
        {% for row in run_query('select source_table, column_names from ' ~ raw_tables ~ ' order by source_table').rows if 'model.churn_radar.stg_' ~ row[0] in upstream %}
            {% do parts.append(row[0] ~ ':' ~ row[1]) %}
        {% endfor %}
    {% endif %}
    {% for id in macros | sort %}
        {% do parts.append(local_md5(context['churn_radar'][id.split('.')[-1]].macro.macro_sql)) %}
    {% endfor %}
    {{ return(local_md5(parts | join(';'))) }}
{% endmacro %}

{#- Add this project's macros among `ids`, and those that they call, to the list `visited`. -#}
{% macro macros_used(ids, visited) %}
    {% for id in ids if id.startswith('macro.churn_radar.') and id not in visited %}
        {% do visited.append(id) %}
        {% do churn_radar.macros_used(context['churn_radar'][id.split('.')[-1]].macro.depends_on.macros, visited) %}
    {% endfor %}
{% endmacro %}

{#- A node and all nodes upstream of it, added to the list `visited`. -#}
{% macro upstream_of(id, visited) %}
    {% if id in graph.nodes and id not in visited %}
        {% do visited.append(id) %}
        {% for parent in graph.nodes[id].depends_on.nodes or [] %}
            {% do churn_radar.upstream_of(parent, visited) %}
        {% endfor %}
    {% endif %}
    {{ return(visited) }}
{% endmacro %}


{#- Whether the model's table was built with other settings, other code or another encoder. -#}
{% macro is_stale() %}
    {{ return(churn_radar.table_comment(this) != churn_radar.build_fingerprint()) }}
{% endmacro %}


{#- The comment on a table, which holds the build fingerprint: it is dropped and renamed together with the table. -#}
{% macro table_comment(relation) %}
    {% if churn_radar.is_spark() %}{{ return(adapter.table_comment(relation)) }}{% endif %}
    {% if churn_radar.is_postgres() %}
        {% set query = "select obj_description(to_regclass('" ~ relation.include(database=false) ~ "'), 'pg_class')" %}
        {{ return(run_query("from postgres_query('" ~ relation.database ~ "', '" ~ query | replace("'", "''") ~ "')").rows[0][0]) }}
    {% endif %}
    {% set comments = run_query(
        "select comment from duckdb_tables() where database_name = '" ~ relation.database
        ~ "' and schema_name = '" ~ relation.schema ~ "' and table_name = '" ~ relation.identifier ~ "'"
    ).rows %}
    {{ return(comments[0][0] if comments else none) }}
{% endmacro %}


{% macro delete_outdated_rows(day=none, late_days=[]) %}
    {% if not execute or model.config.materialized == 'view' or not churn_radar.has_reusable_table() %}{{ return('') }}{% endif %}
    {% if churn_radar.is_stale() %}{{ return(churn_radar.keep_rows('false')) }}{% endif %}
    {% set since = churn_radar.rebuilt_from(day) if day else none %}
    {{ return(churn_radar.keep_rows('not (' ~ churn_radar.is_rebuilt(day, since, late_days) ~ ')') if since else '') }}
{% endmacro %}


{% macro is_rebuilt(day, since, late_days) -%}
    {{ day }} >= cast('{{ since }}' as date)
    {%- for late_day in late_days %} or {{ day }} = cast('{{ late_day }}' as date){% endfor %}
{%- endmacro %}


{% macro late_event_days() %}
    {% set since = churn_radar.rebuilt_from('activity_date') %}
    {% if not since %}{{ return([]) }}{% endif %}
    {% set oldest = since - modules.datetime.timedelta(days=var('churn__history_days')) %}
    {#- small enough for sums of billions -#}
    {% set customer = 'cast(' ~ churn_radar.fast_hash('customer_id') ~ ' % 1048576 as bigint)' %}
    {{ return(run_query(
        "select day, sum(arrived) as arrived from ("
        ~ "select cast(occurred_at as date) as day, count(*) as arrived, sum(" ~ customer ~ ") as customers from " ~ ref('stg_events')
        ~ " where occurred_at >= cast('" ~ oldest ~ "' as timestamp) and occurred_at < cast('" ~ since ~ "' as timestamp) group by 1"
        ~ " union all select activity_date, -sum(events), -sum(events * " ~ customer ~ ") from " ~ this
        ~ " where activity_date >= cast('" ~ oldest ~ "' as date) and activity_date < cast('" ~ since ~ "' as date) group by 1"
        ~ ") as days group by 1 having sum(arrived) <> 0 or sum(customers) <> 0 order by 1"
    ).rows) }}
{% endmacro %}


{#- Whether this model's table exists and is not replaced by --full-refresh. -#}
{% macro has_reusable_table() %}
    {% set table = load_relation(this) %}
    {{ return(table is not none and table.type == 'table' and not should_full_refresh()) }}
{% endmacro %}


{% macro record_fingerprint(table=none) %}
    {% if not execute or model.config.materialized == 'view' %}{{ return('') }}{% endif %}
    {% set relation = this.include(database=false) if churn_radar.is_postgres() else this %}
    {% set fingerprints = churn_radar.build_fingerprint() ~ (' ' ~ churn_radar.reading_fingerprint(table) if table else '') %}
    {% set comment = "comment on table " ~ relation ~ " is '" ~ fingerprints ~ "'" %}
    {{ return(churn_radar.postgres_execute(comment) if churn_radar.is_postgres() else comment) }}
{% endmacro %}


{% macro keep_rows(condition) %}
    {% if not churn_radar.is_spark() %}
        {{ return('delete from ' ~ this ~ ('' if condition == 'false' else ' where not (' ~ condition ~ ')')) }}
    {% endif %}
    {#- Parquet files are immutable, so the adapter rewrites the table without those rows -#}
    {% if execute %}{% do adapter.keep_rows(this, condition) %}{% endif %}
    {{ return('') }}
{% endmacro %}


{% macro delete_dropped_snapshots(spine) %}
    {% if not is_incremental() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows(
        'exists (select 1 from ' ~ spine ~ ' as spine where spine.customer_id = ' ~ this ~ '.customer_id'
        ~ ' and spine.as_of_date = ' ~ this ~ '.as_of_date)'
    )) }}
{% endmacro %}


{% macro delete_unsampled_snapshots(spine) %}
    {% if not execute or not churn_radar.has_reusable_table() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows(
        'not exists (select 1 from ' ~ spine ~ ' as spine where spine.customer_id = ' ~ this ~ '.customer_id'
        ~ ' and spine.as_of_date = ' ~ this ~ '.as_of_date and not spine.is_sampled)'
    )) }}
{% endmacro %}


{% macro delete_removed_customers(relations) %}
    {% if not is_incremental() %}{{ return('') }}{% endif %}
    {{ return(churn_radar.keep_rows('customer_id in (select customer_id from ' ~ relations | join(' union select customer_id from ') ~ ')')) }}
{% endmacro %}


{% macro rebuilt_from(day) %}
    {% if not execute or not is_incremental() or churn_radar.is_stale() %}{{ return(none) }}{% endif %}
    {% set newest = run_query('select max(' ~ day ~ ') from ' ~ this).rows[0][0] %}
    {{ return(newest - modules.datetime.timedelta(days=var('churn__lookback_days')) if newest else none) }}
{% endmacro %}


{% macro snapshots_to_build() %}
    select spine.*
    from {{ ref('int_customer_snapshots') }} as spine
    {%- if is_incremental() %}
    left join {{ this }} as built on spine.customer_id = built.customer_id and spine.as_of_date = built.as_of_date
    where built.customer_id is null or {{ churn_radar.is_in_lookback_window('spine.as_of_date', ref('int_customer_snapshots')) }}
    {%- endif %}
{% endmacro %}


{% macro grid_day(day) -%}
    {{ churn_radar.add_days(day, 'cast(-(' ~ churn_radar.days_between("cast('1970-01-05' as date)", day) ~ ' % ' ~ var('churn__snapshot_every_days') ~ ') as integer)') }}
{%- endmacro %}


{% macro is_in_lookback_window(as_of_date, dates) -%}
    {{ as_of_date }} between
    (select {{ churn_radar.add_days('max(as_of_date)', '-' ~ var('churn__lookback_days')) }} from {{ dates }} where is_newest)
    and (select max(as_of_date) from {{ dates }} where is_newest)
{%- endmacro %}


{% macro power_of_two(ratio) -%}
    cast(power(2, ceil({{ churn_radar.log2('greatest(' ~ ratio ~ ', 1)') }})) as bigint)
{%- endmacro %}


{% macro one_in(dates, rows) -%}
    case
        when {{ dates }}.holds_all then 1
        when {{ dates }}.is_training then {{ churn_radar.power_of_two(rows ~ ' * 1.0 / ' ~ var('churn__training_rows')) }}
        else 0
    end
{%- endmacro %}


{% macro drop_temporary_tables() %}
    {% if not execute or churn_radar.is_spark() %}{{ return('') }}{% endif %}
    {% set drops = [] %}
    {% for row in run_query(
        "select schema_name, table_name from duckdb_tables() where database_name = current_database() and not temporary"
        ~ " and regexp_matches(table_name, '__dbt_tmp[0-9]+$')"
    ).rows %}
        {% do drops.append('drop table ' ~ adapter.quote(row[0]) ~ '.' ~ adapter.quote(row[1])) %}
    {% endfor %}
    {{ return(drops | join(';\n')) }}
{% endmacro %}
