{#- Checks of raw tables against the data contract, and against the last build. -#}

{% macro check_raw_tables() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {% set problems = [] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% set table = contract.name %}
        {% set source_types = churn_radar.column_types(churn_radar.raw_source(table)) %}
        {% set missing = churn_radar.missing_columns(table, source_types or {}) %}
        {% set relation = churn_radar.raw_source(table) if missing else churn_radar.raw_relation(table) %}
        {% set types = none if missing else churn_radar.column_types(relation) %}
        {% if source_types is none and contract.meta.required %}
            {% do problems.append(table ~ ': no such table; expected the ' ~ ('file ' if (relation | string).startswith(("'", 'parquet.')) else 'table ') ~ relation ~ ', or a relation in the var churn__' ~ table ~ '_source') %}
        {% elif missing and source_types is not none %}
            {% do problems.extend(missing) %}
        {% elif types is not none %}
            {% for column in churn_radar.read_columns(table) %}
                {% if column.name not in types %}
                    {% if column.meta.get('required') %}
                        {% do problems.append(table ~ '.' ~ column.name ~ ': the column is missing; expected ' ~ column.data_type) %}
                    {% endif %}
                {% else %}
                    {% do problems.extend(churn_radar.type_problems(table, relation, column, types[column.name])) %}
                {% endif %}
            {% endfor %}
        {% endif %}
        {% for attribute in (churn_radar.attributes_of(table) if not (missing and source_types is not none) else []) if attribute | lower not in (types or {}) %}
            {% do problems.append('customers.' ~ attribute ~ ': named in churn__customer_attributes, but the column is missing') %}
        {% endfor %}
    {% endfor %}
    {% if not problems and not flags.EMPTY %}
        {% do problems.extend(churn_radar.change_problems()) %}
        {% do problems.extend(churn_radar.order_problems()) %}
    {% endif %}
    {{ churn_radar.raise_problems(problems) }}
    {% do churn_radar.warn_of_reloads() %}
{% endmacro %}


{#- Error lines for columns named in churn__<table>_columns that the shop's table lacks, and for what is no SQL expression. -#}
{% macro missing_columns(table, types) %}
    {% set problems = [] %}
    {% for column, expression in churn_radar.column_mapping(table).items() if expression is not none and expression | lower not in types %}
        {% set text = expression | string %}
        {% set read = {'names': [text], 'problem': ''} %}
        {#- Spark is not asked which columns an expression reads, and names of a lambda are no columns -#}
        {% if not modules.re.fullmatch('[A-Za-z_][A-Za-z_0-9]*', text) and (churn_radar.is_spark() or '->' in text or 'lambda' in text) %}
            {% do read.update({'names': []}) %}
        {% elif not modules.re.fullmatch('[A-Za-z_][A-Za-z_0-9]*', text) %}
            {% set query = 'select (' ~ text ~ ')' %}
            {% set parsed = run_query("select json_serialize_sql('" ~ query | replace("'", "''") ~ "')").rows[0][0] %}
            {% set problem = fromjson(parsed) %}
            {% if problem.error %}
                {% do read.update({'problem': ', and that is no SQL expression (' ~ problem.error_message ~ ')'}) %}
            {% else %}
                {% do read.update({'names': modules.re.findall('"column_names":\\["([^"]+)"', parsed)}) %}
            {% endif %}
        {% endif %}
        {% for name in read.names if name | lower not in types %}
            {% if loop.first %}
                {% do problems.append('churn__' ~ table ~ '_columns.' ~ column ~ ': ' ~ churn_radar.raw_source(table) ~ ' has no column ' ~ name ~ read.problem ~ '; it has ' ~ types.keys() | join(', ')) %}
            {% endif %}
        {% endfor %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- Error lines for a raw column that cannot be read as the contract's type. -#}
{% macro type_problems(table, relation, column, type) %}
    {% set expected = churn_radar.type_family(column.data_type | upper) %}
    {% set family = churn_radar.type_family(type) %}
    {% set name = table ~ '.' ~ column.name %}
    {% if type == '"NULL"' or expected == family or (expected == 'text' and (family == 'number' or type == 'UUID')) %}
        {{ return([]) }}
    {% elif family == 'text' %}
        {% set quoted = adapter.quote(column.name) %}
        {% set bad = run_query(
            'select count(*), min(text_read) from ('
            ~ 'select ' ~ churn_radar.read_text(quoted, type) ~ ' as text_read, ' ~ churn_radar.read_column(column, quoted, type) ~ ' as value_read'
            ~ ' from ' ~ relation ~ ' as raw_rows) as both_read where text_read is not null and value_read is null'
        ).rows[0] %}
        {% if bad[0] == 0 %}{{ return([]) }}{% endif %}
        {{ return([name ~ ': ' ~ bad[0] ~ ' values cannot be read as ' ~ column.data_type ~ ", for example '" ~ bad[1] ~ "'"]) }}
    {% else %}
        {{ return([name ~ ': the type is ' ~ type ~ '; expected ' ~ column.data_type]) }}
    {% endif %}
{% endmacro %}


{#- Error lines for the rows of orders; their columns are checked before. -#}
{% macro order_problems() %}
    {% set checked = churn_radar.checked_rows('orders') %}
    {% set summary = run_query(
        "select count(*), count(case when rejection_reason is null and status = 'completed' then 1 end),"
        ~ " min(case when rejection_reason is null and status = 'completed' then cast(ordered_at as date) end),"
        ~ " min(case when status not in ('completed', 'cancelled', 'returned', 'refund') then status end),"
        ~ " max(case when rejection_reason is null and status = 'completed' then cast(ordered_at as date) end)"
        ~ " from (" ~ checked ~ ") as checked"
    ).rows[0] %}
    {% set as_of_date = var('churn__as_of_date') %}
    {% if summary[0] == 0 and var('churn__allow_empty') %}
        {{ return([]) }}
    {% elif summary[0] == 0 %}
        {{ return(['orders: the table is empty; expected at least one completed order, or churn__allow_empty: true for a shop that has not sold anything yet']) }}
    {% elif summary[3] is not none %}
        {{ return(["orders.status: found '" ~ summary[3] ~ "'; expected completed, cancelled, returned or refund"]) }}
    {% elif summary[1] == 0 %}
        {{ return(['orders: none of ' ~ summary[0] ~ ' rows is a possible completed order; expected at least one']) }}
    {% elif as_of_date is not none and as_of_date | string <= summary[2] | string %}
        {{ return(['churn__as_of_date is ' ~ as_of_date ~ ', but the first completed order is of ' ~ summary[2] ~ '; expected a later date']) }}
    {% endif %}
    {#- later, nobody would have ordered in the activity window, or everybody would look silent -#}
    {% set today = run_started_at.date() %}
    {% set latest = [today, summary[4] + modules.datetime.timedelta(days=var('churn__activity_days'))] | min %}
    {% if as_of_date is not none and as_of_date | string > latest | string %}
        {{ return(['churn__as_of_date is ' ~ as_of_date ~ '; expected at most ' ~ latest ~ (', today' if latest == today else ', churn__activity_days after the last completed order')]) }}
    {% endif %}
    {#- a gap before the newest orders that exceeds churn__horizon_days and three times every earlier gap is an error:
        orders dated in the future by a wrong clock would make every customer inactive -#}
    {% if as_of_date is not none %}{{ return([]) }}{% endif %}
    {% set horizon = var('churn__horizon_days') %}
    {% set of_orders = "from (" ~ checked ~ ") as checked where rejection_reason is null and status = 'completed' and " %}
    {% set is_counted = churn_radar.moves_newest_date('cast(ordered_at as date)') %}
    {% set ahead = run_query('select count(*) ' ~ of_orders ~ 'not (' ~ is_counted ~ ')').rows[0][0] if is_counted != 'true' else 0 %}
    {% if ahead %}
        {% do exceptions.warn('orders: ' ~ ahead ~ " orders that the service accepted are more than churn__horizon_days after the newest of the shop's own table; the newest as-of date does not follow them. Expected a table that is loaded more often") %}
    {% endif %}
    {% set gap = run_query(
        "with order_days as (select distinct cast(ordered_at as date) as day " ~ of_orders ~ is_counted ~ "),"
        ~ " dated_gaps as (select day, lag(day) over (order by day) as before, max(day) over () as newest from order_days),"
        ~ " gaps as (select *, " ~ churn_radar.days_between('before', 'day') ~ " as days from dated_gaps),"
        ~ " longest as (select *, max(days) over (order by day rows between unbounded preceding and 1 preceding) as longest_before from gaps)"
        ~ " select before, day from longest where days > " ~ horizon ~ " and days > 3 * coalesce(longest_before, 0)"
        ~ " and day > " ~ churn_radar.add_days('newest', -horizon) ~ " order by day desc limit 1"
    ).rows %}
    {% if gap %}
        {{ return(['orders.ordered_at: no completed order between ' ~ gap[0][0] ~ ' and ' ~ gap[0][1] ~ ', just before the newest; expected no such silence (churn__horizon_days is ' ~ horizon ~ '). Did a clock jump? If not, set churn__as_of_date']) }}
    {% endif %}
    {{ return([]) }}
{% endmacro %}


{#- Error lines for raw tables that lost rows or columns since the last build (int_raw_tables); --full-refresh accepts the loss. -#}
{% macro change_problems() %}
    {% set problems = [] %}
    {% set before = churn_radar.built_table('int_raw_tables') %}
    {% if before is none or flags.FULL_REFRESH %}{{ return([]) }}{% endif %}
    {% set max_drop = var('churn__max_row_drop') %}
    {% for row in run_query('select source_table, row_count, column_names from ' ~ before ~ ' where row_count > 0').rows %}
        {% set types = churn_radar.raw_column_types(row[0]) or {} %}
        {% set lost = [] %}
        {% set mapping = churn_radar.column_mapping(row[0]) %}
        {% for column in row[2].split(',') if column not in types and mapping.get(column, '') is not none %}
            {% do lost.append(column) %}
        {% endfor %}
        {% if not types %}
            {% do problems.append(row[0] ~ ': the table was there at the last build and is gone; expected it, or --full-refresh to go on without') %}
        {% elif lost %}
            {% do problems.append(row[0] ~ '.' ~ lost | join(', ' ~ row[0] ~ '.') ~ ': there at the last build and missing now; expected the same columns, or --full-refresh to go on without') %}
        {% else %}
            {% set rows = run_query('select count(*) from ' ~ churn_radar.raw_relation(row[0]) ~ ' as raw_rows').rows[0][0] %}
            {% if rows < row[1] * (1 - max_drop) %}
                {% do problems.append(row[0] ~ ': ' ~ rows ~ ' rows, ' ~ row[1] ~ ' at the last build; expected a fall of at most ' ~ '%.0f' | format(100 * max_drop) ~ '% (churn__max_row_drop), or --full-refresh to accept it') %}
            {% endif %}
        {% endif %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#-
    Warning for a table whose rows all have the same day in loaded_at although they tell of a longer time: that is when the
    table was copied, and nothing would be known of any day before it.
-#}
{% macro warn_of_reloads() %}
    {% for contract in churn_radar.raw_contracts() if 'loaded_at' in contract.columns and 'loaded_at' in (churn_radar.column_types(churn_radar.raw_relation(contract.name)) or {}) %}
        {% set event_time = contract.meta.event_time %}
        {% for row in run_query(
            "select * from (select cast(loaded_at as date) as loaded_on, count(*) as loaded_rows, sum(count(*)) over () as all_rows,"
            ~ " min(min(cast(case when " ~ event_time ~ " >= timestamp '1990-01-01' then " ~ event_time ~ " end as date))) over () as first_day"
            ~ " from (" ~ churn_radar.checked_rows(contract.name) ~ ") as checked group by 1) as days"
            ~ " where loaded_rows >= 0.99 * all_rows and " ~ churn_radar.days_between('first_day', 'loaded_on') ~ " > 90"
        ).rows %}
            {% do exceptions.warn(
                contract.name ~ '.loaded_at: ' ~ row[1] ~ ' of ' ~ row[2] ~ ' rows are of one day, ' ~ row[0] ~ ', but ' ~ event_time ~ ' goes back to ' ~ row[3]
                ~ ', and nothing counts before its loaded_at. Is it the time of the last copy? Then set churn__' ~ contract.name
                ~ "_columns: {loaded_at: null}"
            ) %}
        {% endfor %}
    {% endfor %}
{% endmacro %}


{% macro warn_of_shared_keys() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {% set repeated = run_query('select distinct source_table from ' ~ this).columns[0].values() %}
    {% for contract in churn_radar.raw_contracts() if contract.name in repeated and 'loaded_at' in contract.columns %}
        {% set key, moment = contract.meta.primary_key, contract.meta.event_time %}
        {% set shared = run_query(
            'select count(*), min(' ~ key ~ ') from (select ' ~ key ~ ' from (' ~ churn_radar.checked_rows(contract.name) ~ ') as checked'
            ~ ' where rejection_reason is null and ' ~ churn_radar.key_hash(contract.name) ~ ' in (select key_hash from ' ~ this
            ~ " where source_table = '" ~ contract.name ~ "') group by " ~ key ~ ' having min(customer_id) <> max(customer_id)'
            ~ ' and min(' ~ moment ~ ') <> max(' ~ moment ~ ')) as shared_keys'
        ).rows[0] %}
        {% if shared[0] %}
            {% do exceptions.warn(
                contract.name ~ '.' ~ key ~ ': ' ~ shared[0] ~ ' keys have rows of several customers at several times, for example ' ~ shared[1]
                ~ '; of each key only the row that was loaded last counts. Map ' ~ key ~ ' to an expression that is a key, as with the name of the shop in it'
            ) %}
        {% endif %}
    {% endfor %}
    {{ return('') }}
{% endmacro %}


{% macro warn_of_rejected_rows() %}
    {% if not execute %}{{ return('') }}{% endif %}
    {% set rejected = {} %}
    {% for row in run_query(
        'select source_table, rejection_reason, count(*), min(row_content) from ' ~ this ~ ' group by 1, 2 order by 3 desc, 2'
    ).rows %}
        {% do rejected.setdefault(row[0], []).append(row) %}
    {% endfor %}
    {% for table, reasons in rejected.items() %}
        {% do churn_radar.warn_of_rejected_events(table) %}
        {% set total = run_query('select count(*) from (' ~ churn_radar.checked_rows(table) ~ ') as checked').rows[0][0] %}
        {% set all = reasons | sum(attribute=2) %}
        {% if all > total / 20 %}
            {% set reason, example = reasons[0][1], fromjson(reasons[0][3], {}) %}
            {#- the key and the value of the column that the reason begins with; the rest of the row may be personal -#}
            {% set shown = [] %}
            {% for name in [example.keys() | first, reason.split(' ')[0]] | unique if name in example %}
                {% do shown.append(name ~ ' ' ~ example[name]) %}
            {% endfor %}
            {% do exceptions.warn(
                table ~ ': ' ~ all ~ ' of ' ~ total ~ ' rows are set aside in ' ~ this.identifier ~ '; most, ' ~ reasons[0][2] ~ ', as ' ~ reason
                ~ ', for example ' ~ shown | join(', ')
            ) %}
        {% endif %}
    {% endfor %}
    {{ return('') }}
{% endmacro %}


{#- A warning for each reason why rows of a raw table that the service accepted are set aside, which names the event log and how to drop them. -#}
{% macro warn_of_rejected_events(table) %}
    {% if not churn_radar.raw_parts(table) | rejectattr('is_own') | list %}{{ return('') }}{% endif %}
    {% set key = churn_radar.raw_contract(table).columns | first %}
    {% set log = env_var('CHURN_EVENTS', '') | replace('sqlite', '') or env_var('CHURN_HOME', '.churn') ~ '/events/log.db' %}
    {% for row in run_query(
        'select rejection_reason, count(*), min(' ~ key ~ ') from (' ~ churn_radar.checked_rows(table, logged_only=true) ~ ') as checked'
        ~ ' where rejection_reason is not null group by 1 order by 2 desc, 1'
    ).rows %}
        {% do exceptions.warn(
            table ~ ': ' ~ row[1] ~ ' rows that the service accepted are set aside, as ' ~ row[0] ~ ', for example ' ~ key ~ ' ' ~ row[2]
            ~ '. They are in the event log, ' ~ log ~ ': churn-radar events list shows them, events drop removes one'
        ) %}
    {% endfor %}
{% endmacro %}
