{#-
    `dbt run-operation make_shops` creates shops whose tables differ from the data contract. Random numbers are md5
    hashes, so that every run creates the same rows; a customer's order rate and last day depend on the customer number.
-#}
{% macro make_shops() %}
    {% for statement in bakery() + outfitter() + opening() %}
        {% do run_query(statement) %}
    {% endfor %}
{% endmacro %}


{#- A pseudo-random number from 0 to 1 that depends only on the text. -#}
{% macro uniform(text) -%}
    (cast('0x' || substr(md5({{ text }}), 1, 8) as bigint) / 4294967296.0)
{%- endmacro %}


{#- Orders (customer, number, placed_at) of 150 customers over 300 days, every 8 to 38 days; half of the customers stop. -#}
{% macro order_stream(salt) %}
    select
        customer,
        row_number() over (order by customer, place) as number,
        timestamp '2024-01-01 09:00:00' + to_seconds(cast(86400 * day as bigint)) as placed_at
    from (
        select
            customer,
            place,
            (place + {{ uniform("'" ~ salt ~ "a' || customer || ' ' || place") }}) * (8 + 30 * {{ uniform("'" ~ salt ~ "b' || customer") }}) as day,
            60 + 500 * {{ uniform("'" ~ salt ~ "c' || customer") }} as stops_after
        from range(1, 151) as customers (customer)
        cross join range(0, 40) as places (place)
    ) as planned
    where day < stops_after and day < 300
{% endmacro %}


{#- Integer ids, times in seconds, amounts in cents, other status values, one line per product. -#}
{% macro bakery() %}
    {{ return([
        'create schema if not exists bakery',
        "create or replace table bakery.receipts as select number as nr, customer as client, cast(epoch(placed_at) as bigint) as ts,"
        ~ " cast(500 + 4000 * " ~ uniform("'price' || number") ~ " as bigint) as cents,"
        ~ " case when number % 31 = 0 then 'refunded' when number % 17 = 0 then 'void' else 'paid' end as state,"
        ~ " cast(epoch(placed_at) as bigint) + 86400 * (number % 3) as imported from (" ~ order_stream('bakery') ~ ")",
        "create or replace table bakery.receipt_lines as select nr as receipt, 100 + nr % 7 as article, 1 + nr % 3 as pieces,"
        ~ " cents as piece_cents, case nr % 7 when 0 then 'bread' else 'cake' end as shelf from bakery.receipts",
        "create or replace table bakery.people as select customer as client, cast(epoch(timestamp '2023-12-01') as bigint) + 3600 * customer as joined,"
        ~ " case customer % 3 when 0 then 'north' else 'south' end as district from range(1, 151) as customers (customer)",
    ]) }}
{% endmacro %}


{#- All columns are text, as in CSV exports; with clicks, reviews, tickets and mails. -#}
{% macro outfitter() %}
    {{ return([
        'create schema if not exists outfitter',
        "create or replace table outfitter.sales as select 'S-' || number as sale, 'K' || customer as kunde, strftime(placed_at, '%Y-%m-%d %H:%M:%S') as zeit,"
        ~ " printf('%.2f', 10 + 90 * " ~ uniform("'price' || number") ~ ") as betrag from (" ~ order_stream('outfitter') ~ ")",
        "create or replace table outfitter.members as select 'K' || customer as kunde, timestamp '2023-11-01' + to_days(customer % 60) as since,"
        ~ " case customer % 3 when 0 then 'gold' else 'basic' end as tier, 20 + customer % 50 as age from range(1, 151) as customers (customer)",
        "create or replace table outfitter.clicks as select 'C' || row_number() over () as click, kunde, cast(zeit as timestamp) - interval '2' hour as at,"
        ~ " case when hash(sale) % 3 = 0 then 'basket' else 'page' end as what, sale as visit from outfitter.sales",
        "create or replace table outfitter.opinions as select 'R' || sale as opinion, kunde, cast(zeit as timestamp) + interval '3' day as at,"
        ~ " case when " ~ uniform("sale") ~ " < 0.5 then 'Lovely coat, fits well' else 'The zip broke after two days' end as words,"
        ~ " 1 + cast(floor(5 * " ~ uniform("'stars' || sale") ~ ") as integer) as stars from outfitter.sales where hash(sale) % 4 = 0",
        "create or replace table outfitter.letters as select 'T' || sale as letter, kunde, cast(zeit as timestamp) + interval '5' day as at,"
        ~ " 'Where is my parcel?' as words from outfitter.sales where hash(sale) % 11 = 0",
        "create or replace table outfitter.mails as select 'M' || sale as mail, kunde, 'spring' as campaign, 'newsletter' as what,"
        ~ " cast(zeit as timestamp) + interval '10' day as at from outfitter.sales where hash(sale) % 5 = 0",
    ]) }}
{% endmacro %}


{#- A shop before its first order: the tables exist and are empty. -#}
{% macro opening() %}
    {{ return([
        'create schema if not exists opening',
        'create or replace table opening.orders (order_id varchar, customer_id varchar, ordered_at timestamp, amount double)',
        'create or replace table opening.events (event_id varchar, customer_id varchar, event_type varchar, occurred_at timestamp)',
        'create or replace table opening.reviews (review_id varchar, customer_id varchar, review_text varchar, reviewed_at timestamp)',
    ]) }}
{% endmacro %}
