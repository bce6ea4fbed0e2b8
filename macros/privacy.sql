{#- Personal data: columns that are never read, erased customers, and pseudonyms. -#}

{#-
    Columns of a raw table tagged `meta: {pii: true}` in the contract or in the model or source that churn__<table>_source names.
    Columns that the contract requires are excluded: they are read even if the shop's source tags them.
-#}
{% macro personal_columns(table) %}
    {% set names = [] %}
    {% set contract = churn_radar.raw_contract(table) %}
    {% set required = contract.columns.values() | selectattr('meta.required', 'true') | map(attribute='name') | list %}
    {% set named = churn_radar.named_node(var('churn__' ~ table ~ '_source', none)) %}
    {% for node in [contract, named] if node %}
        {% for column in node.columns.values() if column.meta.get('pii') is true and column.name | lower not in required %}
            {% do names.append(column.name | lower) %}
        {% endfor %}
    {% endfor %}
    {{ return(names | unique | list) }}
{% endmacro %}


{#- Columns of a raw table's staging model: those of the contract that it does not tag as pii. -#}
{% macro staged_columns(table) %}
    {{ return(churn_radar.raw_contract(table).columns.values() | rejectattr('meta.pii', 'true') | list) }}
{% endmacro %}


{#- Staging columns that are read; those that the shop's own source tags as pii are null, and texts without the part text. -#}
{% macro read_columns(table) %}
    {% set columns = churn_radar.staged_columns(table) | rejectattr('name', 'in', churn_radar.personal_columns(table)) %}
    {{ return((columns if 'text' in var('churn__enabled') else columns | rejectattr('meta.pii', 'equalto', 'words')) | list) }}
{% endmacro %}


{% macro attributes_of(table) %}
    {% set names = var('churn__customer_attributes') if table == 'customers' else [] %}
    {{ return(names if names is sequence and names is not string else []) }}
{% endmacro %}


{% macro quoted_attributes(table) %}
    {% set names = [] %}
    {% for name in churn_radar.attributes_of(table) %}
        {% do names.append(adapter.quote(name)) %}
    {% endfor %}
    {{ return(names) }}
{% endmacro %}


{#- Error lines for vars that would read a column tagged pii. -#}
{% macro personal_problems() %}
    {% set problems = [] %}
    {% for contract in churn_radar.raw_contracts() %}
        {% set table = contract.name %}
        {% set personal = churn_radar.personal_columns(table) %}
        {% for column, expression in churn_radar.column_mapping(table).items() if column not in ['customer_id', 'review_text', 'ticket_text'] %}
            {% for word in modules.re.findall('[A-Za-z_][A-Za-z_0-9]*', column ~ ' ' ~ expression) | map('lower') | unique if word in personal %}
                {% do problems.append('churn__' ~ table ~ '_columns.' ~ column ~ ': ' ~ table ~ '.' ~ word ~ ' is tagged pii and is never read; leave it out') %}
            {% endfor %}
        {% endfor %}
        {% for attribute in churn_radar.attributes_of(table) if attribute | lower in personal %}
            {% do problems.append('churn__customer_attributes: customers.' ~ attribute ~ ' is tagged pii and is never read; leave it out') %}
        {% endfor %}
    {% endfor %}
    {{ return(problems) }}
{% endmacro %}


{#- Pseudonym of a customer id; inference/pseudonyms.py computes the same. -#}
{% macro pseudonym(expression) -%}
    'p_' || substr({{ churn_radar.salted_hash('pseudonym', expression) }}, 1, 32)
{%- endmacro %}


{#- Hash with the shop's salt, which is a session variable so that it never appears in compiled SQL. -#}
{% macro salted_hash(purpose, expression) -%}
    {%- if churn_radar.is_spark() -%}
    {#- read from the salt file, as Spark views cannot use session variables -#}
    sha2((select max(value) from {{ adapter.salt_relation() }}) || '{{ purpose }}:' || {{ expression }}, 256)
    {%- else -%}
    sha256(
        case
            when getvariable('churn_salt') is null
                then error('session variable churn_salt is not set; expected the plugin inference.warehouse.plugin in profiles.yml')
            else cast(getvariable('churn_salt') as varchar)
        end || '{{ purpose }}:' || {{ expression }}
    )
    {%- endif -%}
{%- endmacro %}


{#- Condition that leaves out customers removed by `churn-radar erase`: each load of raw tables may contain them again. -#}
{% macro not_erased(table, customer_id) %}
    {% set erased = churn_radar.home_relation('erased_customers') %}
    {% if not customer_id or churn_radar.column_types(erased) is none %}{{ return('true') }}{% endif %}
    {% set hashed = churn_radar.salted_hash('erased', customer_id) %}
    {{ return('(' ~ customer_id ~ ' is null or ' ~ hashed ~ ' not in (select customer_hash from ' ~ erased ~ '))') }}
{% endmacro %}


{% macro pseudonymise_stored_ids() %}
    {% if not execute or not var('churn__pseudonymise') or not churn_radar.has_reusable_table() %}{{ return('') }}{% endif %}
    {% set matches = 'regexp_like' if churn_radar.is_spark() else 'regexp_matches' %}
    {% set pseudonym, is_shops_own = churn_radar.pseudonym('customer_id'), 'not ' ~ matches ~ "(customer_id, '^p_[0-9a-f]{32}$')" %}
    {% if not churn_radar.is_spark() %}{{ return('update ' ~ this ~ ' set customer_id = ' ~ pseudonym ~ ' where ' ~ is_shops_own) }}{% endif %}
    {% do adapter.change_rows(this, 'customer_id', pseudonym, is_shops_own) %}
    {{ return('') }}
{% endmacro %}
