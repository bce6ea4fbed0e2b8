{#-
    Shops of other shapes than the contract's, made in the warehouse: `dbt run-operation make_shops`. Chance comes from
    md5, so every run makes the same rows. Who orders how often, and who stops, depends on the customer's number.
-#}
{% macro make_shops() %}
    {% for statement in bakery() + outfitter() + nothing_sold_yet() %}
        {% do run_query(statement) %}
    {% endfor %}
{% endmacro %}


{#- A number from 0 to 1 that depends on a text only. -#}
{% macro chance(text) -%}
    (cast('0x' || substr(md5({{ text }}), 1, 8) as bigint) / 4294967296.0)
{%- endmacro %}


{#- Orders of 150 customers over ten months: (customer, number, moment), every 8 to 38 days until half of them stop. -#}
{% macro order_stream(salt) %}
    select
        customer,
        row_number() over (order by customer, place) as number,
        timestamp '2024-01-01 09:00:00' + to_seconds(cast(86400 * day as bigint)) as placed_at
    from (
        select
            customer,
            place,
            (place + {{ chance("'" ~ salt ~ "a' || customer || ' ' || place") }}) * (8 + 30 * {{ chance("'" ~ salt ~ "b' || customer") }}) as day,
            60 + 500 * {{ chance("'" ~ salt ~ "c' || customer") }} as leaves
        from range(1, 151) as customers (customer)
        cross join range(0, 40) as places (place)
    ) as planned
    where day < leaves and day < 300
{% endmacro %}


{#- Integer ids, seconds for times, cents for money, other words for a status; a line per product. -#}
{% macro bakery() %}
    {{ return([
        'create schema if not exists bakery',
        "create or replace table bakery.receipts as select number as nr, customer as client, cast(epoch(placed_at) as bigint) as ts,"
        ~ " cast(500 + 4000 * " ~ chance("'price' || number") ~ " as bigint) as cents,"
        ~ " case when number % 31 = 0 then 'refunded' when number % 17 = 0 then 'void' else 'paid' end as state,"
        ~ " cast(epoch(placed_at) as bigint) + 86400 * (number % 3) as imported from (" ~ order_stream('bakery') ~ ")",
        "create or replace table bakery.receipt_lines as select nr as receipt, 100 + nr % 7 as article, 1 + nr % 3 as pieces,"
        ~ " cents as piece_cents, case nr % 7 when 0 then 'bread' else 'cake' end as shelf from bakery.receipts",
        "create or replace table bakery.people as select customer as client, cast(epoch(timestamp '2023-12-01') as bigint) + 3600 * customer as joined,"
        ~ " case customer % 3 when 0 then 'north' else 'south' end as district from range(1, 151) as customers (customer)",
    ]) }}
{% endmacro %}


{#- Text for everything, as an export of files has it; visits, reviews, tickets and mails besides. -#}
{% macro outfitter() %}
    {{ return([
        'create schema if not exists outfitter',
        "create or replace table outfitter.sales as select 'S-' || number as sale, 'K' || customer as kunde, strftime(placed_at, '%Y-%m-%d %H:%M:%S') as zeit,"
        ~ " printf('%.2f', 10 + 90 * " ~ chance("'price' || number") ~ ") as betrag from (" ~ order_stream('outfitter') ~ ")",
        "create or replace table outfitter.members as select 'K' || customer as kunde, timestamp '2023-11-01' + to_days(customer % 60) as since,"
        ~ " case customer % 3 when 0 then 'gold' else 'basic' end as tier, 20 + customer % 50 as age from range(1, 151) as customers (customer)",
        "create or replace table outfitter.clicks as select 'C' || row_number() over () as click, kunde, cast(zeit as timestamp) - interval '2' hour as at,"
        ~ " case when hash(sale) % 3 = 0 then 'basket' else 'page' end as what, sale as visit from outfitter.sales",
        "create or replace table outfitter.opinions as select 'R' || sale as opinion, kunde, cast(zeit as timestamp) + interval '3' day as at,"
        ~ " case when " ~ chance("sale") ~ " < 0.5 then 'Lovely coat, fits well' else 'The zip broke after two days' end as words,"
        ~ " 1 + cast(floor(5 * " ~ chance("'stars' || sale") ~ ") as integer) as stars from outfitter.sales where hash(sale) % 4 = 0",
        "create or replace table outfitter.letters as select 'T' || sale as letter, kunde, cast(zeit as timestamp) + interval '5' day as at,"
        ~ " 'Where is my parcel?' as words from outfitter.sales where hash(sale) % 11 = 0",
        "create or replace table outfitter.mails as select 'M' || sale as mail, kunde, 'spring' as campaign, 'newsletter' as what,"
        ~ " cast(zeit as timestamp) + interval '10' day as at from outfitter.sales where hash(sale) % 5 = 0",
    ]) }}
{% endmacro %}


{#- The first morning of a shop: the tables are there, and nothing is in them. -#}
{% macro nothing_sold_yet() %}
    {{ return([
        'create schema if not exists opening',
        'create or replace table opening.orders (order_id varchar, customer_id varchar, ordered_at timestamp, amount double)',
        'create or replace table opening.events (event_id varchar, customer_id varchar, event_type varchar, occurred_at timestamp)',
        'create or replace table opening.reviews (review_id varchar, customer_id varchar, review_text varchar, reviewed_at timestamp)',
    ]) }}
{% endmacro %}
