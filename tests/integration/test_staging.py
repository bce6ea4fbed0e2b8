"""Raw tables as real shops have them: types of ids and times that differ, copies, lines that repeat, absurd values."""

import re
import subprocess
from datetime import datetime

import duckdb
import pandas as pd
import pytest
from shop import Shop
from test_bad_input import check_refused

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog
from inference.warehouse.ids import as_text, plain_number

NOW = pd.Timestamp.now("UTC").tz_localize(None)
VARIABLES = {
    "churn__customer_attributes": ["tier", "group of"],
    "churn__orders_columns": {
        "amount": "Net Paid",
        "status": "cast(state as enum('completed', ' Cancelled', 'PRINTED', 'refund', 'nan'))",
    },
}
#: order_id, customer_id (a null makes the column double), ordered_at, amount, state, loaded_at
ORDERS = [
    (1, 1054.0, "2024-03-01T02:00:00+08:00", 10.0, "completed", None),
    (2, 1054.0, "2024-02-29T22:00:00-05:00", 20.0, "nan", None),
    (3, 7.0, "2023-01-02T00:30:00+02:00", 30.0, " Cancelled", None),
    (4, 7.0, "2024-03-01 02:00:00", 1.0, "completed", datetime(2024, 2, 11)),
    (5, 8.0, "2024-03-01", 40.0, None, datetime(2024, 3, 2)),
    (6, 8.0, "2024-03-01T12:00:00Z", 50.0, "completed", datetime(2024, 3, 2)),
    # parts of the money of order 6, written under its id; and money given back in the shop's own words
    (6, 8.0, "2024-03-04T07:00:00-0500", -15.0, "completed", datetime(2024, 3, 5)),
    (6, 8.0, "2024-03-06", -10.0, "completed", datetime(2024, 3, 7)),
    (9, 8.0, "2024-03-05 14:00:00+02", 5.0, "refund", datetime(2024, 3, 6)),
    # two orders under one id, and one that moves with its customer's account
    (17, 7.0, "2024-03-01", 1.0, None, datetime(2024, 3, 2)),
    (17, 8.0, "2024-03-04", 2.0, None, datetime(2024, 3, 5)),
    (18, 7.0, "2024-03-01", 1.0, None, datetime(2024, 3, 2)),
    (18, 8.0, "2024-03-01", 1.0, None, datetime(2024, 3, 5)),
    # set aside
    (10, None, "2024-03-01T12:00:00Z", 1.0, "completed", None),
    (11, 1054.5, "2024-03-01T12:00:00Z", 1.0, "completed", None),
    (12, 2.0**53 + 2, "2024-03-01T12:00:00Z", 1.0, "completed", None),
    (13, 7.0, "NaT", 1.0, "completed", None),
    (14, 7.0, "2024-03-01", float("inf"), "completed", None),
    (15, 7.0, f"{NOW + pd.Timedelta(days=2)}", 1.0, "completed", datetime(2024, 3, 1)),
    (16, 7.0, "2024-03-01", None, "refund", None),
]
#: order_id, product_id, quantity, unit_price
LINES = [
    ("1", "007", 1.0, 5.0),
    ("1", "007", 1.0, 5.0),
    ("01", "007", 2.0, 4.0),
    (" 2.0", " 7", 3.0, 1.0),
    ("3", "None", 1.0, 1.0),
    ("4", "8", 360002914525.0, 500.0),
    ("4", "8", 9e11, 1.0),
]
#: event_id, customer_id, event_type
EVENTS = [
    ("e1", "1054", "View"),
    ("e2", " 1054.0", " view"),
    ("e3", "01054\r", None),
    ("e4", "a long id, and a blank after it ", "VIEW "),
    ("e11", "a long id, and a blank after it\n", "view\t"),
    ("e5", "", "view"),
    ("e6", "   ", "view"),
    ("e7", "nan", "view"),
    ("e8", "None", "view"),
    ("e9", "<NA>", "view"),
    ("e10", " c0001", "view"),
]
#: Ways to write one moment.
NEW_YEAR = [
    "2024-01-01 08:00:00 +08:00",
    "2024-01-01 08:00:00 +0800",
    "2023-12-31 19:00:00\t-05 ",
    "2024-01-01 00:00:00 UTC",
    "2024-01-01T00:00:00utc",
    "2024-01-01T00:00:00.000 z",
    "2024-01-01 00:00:00 GMT",
    "2024-01-01 00:00",
    "2024-01-01",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Shop, subprocess.CompletedProcess]:
    """Staging of the shop, with its data tests."""
    shop = Shop(tmp_path_factory.mktemp("staging") / "home")
    orders = pd.DataFrame(ORDERS, columns=["order_id", "customer_id", "ordered_at", "Net Paid", "state", "loaded_at"])
    # a copy of order 5 every day: the status changes on the third day and back on the fifth
    copies = pd.concat([orders.iloc[[4]]] * 6, ignore_index=True)
    copies["loaded_at"] = pd.date_range("2024-03-03", periods=6)
    copies.loc[2:3, "state"] = " Cancelled"
    occurred = pd.to_datetime(["2023-07-01 02:00:00"] * len(EVENTS)).tz_localize("UTC")
    reviewed = pd.date_range("2023-01-01", periods=200, unit="ns") + pd.Timedelta(nanoseconds=1999)
    shop.write(
        orders=pd.concat([orders, copies], ignore_index=True),
        # sorted both ways, so that the file's order decides nothing
        customers=pd.DataFrame(
            {
                "customer_id": [8, 7, 7, 8, 1054],
                "signed_up_at": pd.to_datetime(["2023-01-01", "2023-01-02", "2023-01-01", "2023-01-01", "1766-01-01"]),
                "tier": ["gold", "new", "old", "silver", "gold"],
                "group of": "all",
            }
        ),
        order_items=pd.DataFrame(LINES, columns=["order_id", "product_id", "quantity", "unit_price"]),
        events=pd.DataFrame(EVENTS, columns=["event_id", "customer_id", "event_type"]).assign(
            occurred_at=occurred, product_id="007"
        ),
        reviews=pd.DataFrame(
            {
                "review_id": range(200),
                "customer_id": 7,
                "review_text": " fine ",
                "reviewed_at": reviewed,
                "loaded_at": pd.Timestamp("2024-01-01 03:00"),
                "product_id": None,  # a file says that these are integers
            }
        ),
        # the help desk has ids of its own
        support_tickets=pd.DataFrame({"ticket_id": range(len(NEW_YEAR)), "customer_id": "d-7", "opened_at": NEW_YEAR}),
        campaign_touches=pd.DataFrame(
            {
                "touch_id": ["t1", "t2", "t3"],
                "customer_id": pd.Series([7.0, 7.0, 2.0**24], dtype="float32"),
                "campaign_id": "c",
                "action": ["Holdout ", "E-Mail", "e-mail"],
                "touched_at": pd.Timestamp("2024-01-01").date(),
            }
        ),
    )
    log = SqliteEventLog(shop.home / "events" / "log.db")
    row = {"event_id": "s1", "event_type": "View ", "occurred_at": "2024-03-01T00:00:00", "customer_id": "007"}
    log.append_all([[Event("s1", "007", {"events": [row]})]])
    log.close()
    select = ("--select", "path:models/staging", "int_raw_tables", "--exclude-resource-type", "unit_test")
    return shop, shop.dbt("build", *select, **VARIABLES)


def staged(built, query: str, time_zone: str = "UTC") -> list[tuple]:
    """Rows of the staging views as a reader in a time zone has them."""
    with duckdb.connect(built[0].home / "churn_radar.duckdb", read_only=True) as connection:
        connection.execute(f"set TimeZone = '{time_zone}'")
        return connection.sql(query).fetchall()


def rejected(built, table: str) -> list[tuple]:
    content = f"row_content ->> '{'order_id' if table.startswith('order') else table.rstrip('s') + '_id'}'"
    query = f"select {content}, rejection_reason from stg_rejected_rows where source_table = '{table}' order by all"
    return staged(built, query)


@pytest.mark.parametrize("time_zone", ["UTC", "America/New_York", "Asia/Shanghai"])
def test_times_are_utc_for_every_reader(built, time_zone):
    orders = dict(staged(built, "select distinct order_id, cast(ordered_at as varchar) from stg_orders", time_zone))
    assert orders["1"] == "2024-02-29 18:00:00"
    assert orders["2"] == "2024-03-01 03:00:00"
    assert orders["3"] == "2023-01-01 22:30:00"
    assert orders["4"] == "2024-03-01 02:00:00"
    assert orders["5"] == "2024-03-01 00:00:00"
    assert orders["6"] == "2024-03-01 12:00:00"
    assert orders["6 refund of 15.0 at 2024-03-04 12:00:00"] == "2024-03-04 12:00:00"
    assert orders["9 refund of 5.0 at 2024-03-05 12:00:00"] == "2024-03-05 12:00:00"
    events = "select distinct cast(occurred_at as date), typeof(occurred_at) from stg_events where event_id like 'e%'"
    assert staged(built, events, time_zone) == [(datetime(2023, 7, 1).date(), "TIMESTAMP")]
    assert staged(built, "select min(epoch_us(reviewed_at)) % 1000000 from stg_reviews", time_zone) == [(1,)]
    for moments in ("opened_at from stg_support_tickets", "touched_at from stg_campaign_touches"):
        assert staged(built, f"select distinct {moments}", time_zone) == [(datetime(2024, 1, 1),)]


def test_ids_join_whatever_their_types_and_nobody_is_no_customer(built):
    assert staged(built, "select distinct customer_id from stg_orders order by 1") == [("1054",), ("7",), ("8",)]
    assert staged(built, "select distinct customer_id from stg_events order by all") == [
        ("1054",),
        ("7",),
        ("a long id, and a blank after it",),
        ("c0001",),
    ]
    assert staged(built, "select distinct customer_id from stg_campaign_touches") == [("7",)]
    assert {id_ for id_, _ in rejected(built, "events")} == {"e5", "e6", "e7", "e8", "e9"}
    # no table has products as numbers, so that text keeps its zeros
    assert staged(built, "select distinct product_id from stg_order_items order by 1") == [("007",), ("7",), ("8",)]
    assert staged(built, "select count(*) from stg_order_items semi join stg_orders using (order_id)") == [(5,)]


def test_the_service_reads_ids_as_staging_does(built):
    texts = [
        "7",
        "007",
        " 7 ",
        "+7",
        "7.0",
        "-07.",
        "000",
        "0",
        "-0",
        "7.5",
        "7a",
        "x07",
        "1e3",
        "0x7",
        ".0",
        "٧",
        "a b",
        "07 ",
    ]
    macros = {number: f"{{{{ churn_radar.read_id('id', 'VARCHAR', {number}) }}}}" for number in (True, False)}
    inline = f"select {macros[True]}, {macros[False]} from (select unnest({texts}) as id)"
    sql = built[0].dbt("compile", "--quiet", "--inline", inline).stdout
    assert duckdb.sql(sql).fetchall() == [(plain_number(as_text(text)), as_text(text)) for text in texts]


def test_codes_are_compared_without_blanks_and_capitals(built):
    types = "select event_type, count(*) from stg_events group by 1 order by 1"
    assert staged(built, types) == [("other", 1), ("view", 6)]
    assert staged(built, "select action from stg_campaign_touches order by 1") == [("e-mail",), ("holdout",)]
    assert staged(built, "select status from stg_orders where order_id in ('2', '3') order by order_id") == [
        ("completed",),
        ("cancelled",),
    ]


def test_lines_that_repeat_are_lines_of_their_own(built):
    lines = "select order_id, quantity, unit_price from stg_order_items where product_id = '007' order by all"
    assert staged(built, lines) == [("1", 1.0, 5.0), ("1", 1.0, 5.0), ("1", 2.0, 4.0)]


def test_a_copy_that_says_the_same_is_no_version(built):
    versions = (
        "select version, status, day(loaded_at), day(superseded_at) from stg_orders where order_id = '5' order by 1"
    )
    assert staged(built, versions) == [
        (1, "completed", 2, 5),
        (2, "cancelled", 5, 7),
        (3, "completed", 7, None),
    ]


def test_money_given_back_is_no_order_and_takes_none_away(built):
    refunds = (
        "select order_id, amount, status from stg_orders where order_id like '6%' or order_id like '9%' order by all"
    )
    assert staged(built, refunds) == [
        ("6", 50.0, "completed"),
        ("6 refund of 10.0 at 2024-03-06 00:00:00", -10.0, "refund"),
        ("6 refund of 15.0 at 2024-03-04 12:00:00", -15.0, "refund"),
        ("9 refund of 5.0 at 2024-03-05 12:00:00", -5.0, "refund"),
    ]


def test_orders_of_several_customers_under_one_id_are_reported(built):
    line = "orders.order_id: 1 keys have rows of several customers at several times, for example 17; of each key only"
    assert line in built[1].stdout


def test_absurd_rows_are_set_aside_with_a_reason(built):
    whole = "customer_id is not a whole number below 2^53"
    assert rejected(built, "orders") == [
        ("10", "customer_id is null"),
        ("11", whole),
        ("12", whole),
        ("13", "ordered_at is null"),
        ("14", "amount is not a number below 10^12"),
        ("15", "ordered_at is in the future"),
        ("16 refund", "amount of a completed order is null"),
    ]
    assert rejected(built, "order_items") == [
        ("3", "product_id is null"),
        ("4", "quantity x unit_price is not a number below 10^12"),
    ]
    touches = "select rejection_reason from stg_rejected_rows where source_table = 'campaign_touches'"
    assert staged(built, touches) == [("customer_id is not a whole number below 2^24",)]
    assert rejected(built, "customers") == [("1054", "signed_up_at is not between 1900 and 2200")]


def test_of_rows_of_one_customer_the_newest_counts_then_the_largest_values(built):
    assert staged(built, "select customer_id, tier from stg_customers order by 1") == [("7", "new"), ("8", "silver")]
    assert re.search(r"WARN 2 no_conflicting_rows_stg_customers_customers", built[1].stdout)


def test_ids_that_join_too_rarely_are_a_warning(built):
    warned = set(re.findall(r"WARN 1 (joins_at_least_stg_\w+_id)_", built[1].stdout))
    assert warned == {"joins_at_least_stg_support_tickets_customer_id"}


def test_ids_of_tables_that_are_not_built_are_expected_to_join_nowhere(tmp_path):
    """As in a build of +order_features, for which dbt runs the tests of all tables that read one of its parents."""
    done = Shop(tmp_path / "home").dbt("test", "--select", "test_name:joins_at_least")
    assert re.search(r"Done. PASS=\d+ WARN=0 ERROR=0", done.stdout)


def test_many_rows_set_aside_are_a_warning_of_one_line(built):
    assert (
        "orders: 7 of 26 rows are set aside in stg_rejected_rows; most, 2, as customer_id is not a whole number "
        "below 2^53, for example order_id 11, customer_id 1054.5" in built[1].stdout
    )
    assert "events: 5 of 12 rows are set aside in stg_rejected_rows; most, 5, as customer_id is null" in built[1].stdout


def test_no_view_holds_the_time_of_the_build(built):
    views = staged(built, "select sql from duckdb_views() where not internal")
    assert len(views) == 7
    assert not any(f"{day:%Y-%m-%d}" in sql for (sql,) in views for day in (NOW, pd.Timestamp.now("UTC")))


def test_loaded_at_that_is_the_time_of_a_copy_is_a_warning_whose_advice_works(built):
    shop, first = built
    line = (
        "reviews.loaded_at: 200 of 200 rows are of one day, 2024-01-01, but reviewed_at goes back to 2023-01-01, and "
        "nothing counts before its loaded_at. Is it the time of the last copy? Then set churn__reviews_columns: "
        "{loaded_at: null}"
    )
    assert first.stdout.count(line) == 1
    advised = VARIABLES | {"churn__reviews_columns": {"loaded_at": None}}
    again = shop.dbt("run", "--select", "stg_reviews", **advised)
    assert "loaded_at: 200" not in again.stdout
    assert staged(built, "select count(*), count(loaded_at), max(version) from stg_reviews") == [(200, 0, 1)]


def test_a_wrong_column_or_expression_is_refused_in_one_line(shop):
    shop.write(orders=pd.DataFrame(ORDERS, columns=["id", "customer_id", "ordered_at", "amount", "state", "loaded_at"]))
    has = "; it has id, customer_id, ordered_at, amount, state, loaded_at"
    source = f"'{shop.raw}/orders.parquet'"
    check_refused(
        shop,
        f"churn__orders_columns.order_id: {source} has no column Order ID, and that is no SQL expression (syntax",
        f"churn__orders_columns.amount: {source} has no column net{has}",
        churn__orders_columns={"order_id": "Order ID", "amount": "round(net / 100, 2)"},
    )
