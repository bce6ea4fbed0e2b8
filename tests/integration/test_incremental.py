"""Daily incremental builds with late, corrected and deleted rows equal one full build."""

import io
import os
import re
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import duckdb
import numpy as np
import one_customer
import pandas as pd
import pytest
from arrivals import TABLES, TEXT_TABLES, arrived, build, differences, manifest, save
from hypothesis import given, settings
from hypothesis import strategies as st
from one_customer import Warehouse
from random_shops import RandomShop
from shop import Shop, orders, small_shop_orders
from test_leaks import shop_with_everything

from inference.pseudonyms import duckdb_salt_sql
from inference.realtime.sequences import SequenceShape

DAYS = ("2023-09-04", "2023-09-05", "2023-09-06")
EVENT = {"event_id": "e", "customer_id": "late", "event_type": "view", "occurred_at": pd.Timestamp("2023-06-01 09:00")}
#: churn__keep_snapshots_days
KEPT = 35
FEW = ("order_features", "forecast_features", "churn_labels")
LAST = pd.Timestamp("2023-07-20")


def shop_with_corrections(seed: int = 2) -> dict[str, pd.DataFrame]:
    """All raw tables; some orders and reviews are corrected days or months later, some events come two days late.

    Customer `x` orders twice; the second order, on a day with five views, is returned on the second of the three days.
    """
    rng = np.random.default_rng(seed)
    tables = shop_with_everything(seed)
    for name, change in {
        "orders": lambda rows: rows.assign(status="returned", amount=rows.amount / 2),
        "reviews": lambda rows: rows.assign(review_text="On second thoughts, it broke", rating=1),
    }.items():
        table = tables[name]
        corrected = change(table[rng.random(len(table)) < 0.1])
        later = pd.to_timedelta(rng.choice([0, 1, 5, 40], len(corrected)), "D") + pd.Timedelta(hours=3)
        tables[name] = pd.concat([table, corrected.assign(loaded_at=corrected.loaded_at + later)], ignore_index=True)
    events = tables["events"]
    events = events.assign(arrives_at=events.occurred_at + pd.to_timedelta(rng.integers(0, 3, len(events)), "D"))
    x = orders([("x", "2023-07-20", 5.0), ("x", "2023-07-29", 5.0), ("x", "2023-07-29", 5.0)])
    x["order_id"], x["status"] = ["x0", "x1", "x1"], ["completed", "completed", "returned"]
    x["loaded_at"] = [*x.ordered_at[:2], pd.Timestamp("2023-09-05 10:00")]
    views = pd.DataFrame({"event_id": [f"x{i}" for i in range(5)], "customer_id": "x", "event_type": "view"})
    views["occurred_at"] = views["arrives_at"] = x.ordered_at[1]
    tables["orders"] = pd.concat([tables["orders"], x], ignore_index=True)
    tables["events"] = pd.concat([events, views], ignore_index=True)
    return tables


@pytest.fixture(scope="module")
def daily(tmp_path_factory) -> Shop:
    """Builds of three days, each with the rows that had arrived by then."""
    shop, tables = Shop(tmp_path_factory.mktemp("daily") / "home"), shop_with_corrections()
    for day in DAYS:
        shop.write(**arrived(tables, pd.Timestamp(day)))
        build(shop, day, tables=(*TABLES, *TEXT_TABLES))
        save(shop, shop.home / day, (*TABLES, *TEXT_TABLES))
    return shop


def rows(shop: Shop, query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.sql(query.replace("$home", str(shop.home))).fetchall()


def test_daily_builds_equal_a_full_build(daily, tmp_path):
    build(daily, DAYS[-1], "--full-refresh", tables=(*TABLES, *TEXT_TABLES))
    rebuilt = save(daily, tmp_path / "rebuilt", (*TABLES, *TEXT_TABLES))
    assert differences(daily.home / DAYS[-1], rebuilt, (*TABLES, *TEXT_TABLES)) == {}


def test_a_correction_of_an_order_leaves_the_visits_of_its_day(daily):
    features = "select as_of_date::varchar, orders_90d, view_events_90d, days_since_last_visit from "
    features += f"'$home/{DAYS[-1]}/order_features.parquet' join '$home/{DAYS[-1]}/engagement_features.parquet' "
    features += f"using (customer_id, as_of_date) where customer_id = 'x' and as_of_date >= '{DAYS[0]}' order by 1"
    assert rows(daily, features) == [(DAYS[0], 2, 5, 37), (DAYS[1], 2, 5, 38), (DAYS[2], 1, 5, 39)]


def test_snapshots_are_kept_and_new_ones_added(daily):
    dates = rows(
        daily,
        f"select as_of_date::varchar, is_newest from '$home/{DAYS[-1]}/int_snapshot_dates.parquet' "
        "where was_asked order by 1",
    )
    assert dates == [(DAYS[0], False), (DAYS[1], False), (DAYS[2], True)]
    for table in ("order_features", "campaign_features", "support_features"):
        changed = rows(
            daily,
            f"select count(*) from (from '$home/{DAYS[0]}/{table}.parquet' where as_of_date = '{DAYS[0]}' except "
            f"from '$home/{DAYS[-1]}/{table}.parquet')",
        )
        assert changed == [(0,)], table


def test_realtime_features_equal_those_of_the_sql(daily):
    # opened like dbt does, which may still have the file open in this process
    with duckdb.connect(daily.home / "churn_radar.duckdb") as connection:
        connection.execute(duckdb_salt_sql((daily.home / "salt").read_text()))
        settings = {"horizon_days": 30, "history_days": 730, "complaint_from": 0.1}
        warehouse = Warehouse(connection, settings)
        assert len(connection.sql("from order_features").fetchall()) > 500
        assert len(connection.sql("from int_customer_orders where status = 'refund'").fetchall()) > 10
        assert list(one_customer.differences(warehouse, 730, SequenceShape(180, 730, 32, 4))) == []


def last_snapshots(shop: Shop) -> dict[str, int]:
    """Orders of the customer `late` at the as-of date of each build."""
    orders_by_date = rows_of(
        shop,
        "select as_of_date::varchar, orders_total from order_features "
        "inner join int_snapshot_dates using (as_of_date) where was_asked and customer_id = 'late'",
    )
    return dict(orders_by_date)


def table_of(shop: Shop, query: str) -> pd.DataFrame:
    # not read-only, as dbt may still have the file open in this process
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        return connection.sql(query).df()


def rows_of(shop: Shop, query: str) -> list[tuple]:
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        return connection.sql(query).fetchall()


def with_late_rows(until: str, *placed: str) -> pd.DataFrame:
    """The small shop up to a day, plus the customer `late` with orders on the given days."""
    known = small_shop_orders(12, 200, 3)
    known = known[known.ordered_at < until]
    late = orders([("late", day, 5.0) for day in placed]).assign(order_id=list(placed))
    return pd.concat([known, late], ignore_index=True) if placed else known


def test_late_rows_without_loaded_at_change_only_the_lookback_window(shop):
    for day, placed in (
        ("2023-07-10", ["2023-06-01"]),
        ("2023-07-13", ["2023-06-01"]),
        ("2023-07-14", ["2023-06-01", "2023-06-20", "2023-07-11"]),
    ):
        # the orders of 20 June and 11 July arrive late: snapshots of the last three days are built anew
        build(shop.write(orders=with_late_rows(day, *placed)), day, tables=["order_features"], churn__lookback_days=3)
    assert last_snapshots(shop) == {"2023-07-10": 1, "2023-07-13": 3, "2023-07-14": 3}
    build(shop, "2023-07-14", "--full-refresh", tables=["order_features"])
    assert last_snapshots(shop) == {"2023-07-10": 2, "2023-07-13": 3, "2023-07-14": 3}


def test_an_order_deleted_within_the_lookback_window_is_removed_from_its_day(shop):
    for day, placed in (("2023-07-13", ["2023-06-01", "2023-07-12"]), ("2023-07-14", ["2023-06-01"])):
        build(shop.write(orders=with_late_rows(day, *placed)), day, tables=["order_features"], churn__lookback_days=3)
    days = "select activity_date::varchar from int_customer_orders where customer_id = 'late'"
    assert rows_of(shop, days) == [("2023-06-01",)]
    assert last_snapshots(shop) == {"2023-07-13": 1, "2023-07-14": 1}


def test_a_deleted_customer_is_removed_from_old_rows(shop):
    build(shop.write(orders=with_late_rows("2023-07-10", "2023-02-01", "2023-07-01")), "2023-07-10", tables=FEW)
    assert last_snapshots(shop) == {"2023-07-10": 2}
    build(shop.write(orders=with_late_rows("2023-07-11")), "2023-07-11", tables=FEW)
    for table in (*FEW, "int_customer_orders", "int_purchase_histories", "purchase_forecasts"):
        assert rows_of(shop, f"select count(*) from {table} where customer_id = 'late'") == [(0,)], table


def test_a_changed_setting_or_a_new_table_rebuilds_everything(shop, tmp_path):
    shop.write(orders=with_late_rows("2023-07-11", "2023-06-01"))
    build(shop, "2023-07-10", tables=FEW)
    # features of a table that appears are no longer null
    for events in ({}, {"events": pd.DataFrame(EVENT, index=[0])}):
        build(shop.write(**events), "2023-07-10", tables=["engagement_features"])
        (known,) = rows_of(shop, "select count(*) = count(view_events_90d) from engagement_features")
        assert known == (bool(events),)
    build(shop, "2023-07-11", tables=FEW, churn__horizon_days=14)
    changed = save(shop, tmp_path / "changed", FEW)
    build(shop, "2023-07-11", "--full-refresh", tables=FEW, churn__horizon_days=14)
    assert differences(changed, save(shop, tmp_path / "rebuilt", FEW), FEW) == {}


def small_shop(loaded: list[int], corrected: list[int], contacted: list[int]) -> dict[str, pd.DataFrame]:
    """Orders of twelve customers with the given delays in days; the first ones are corrected after the given days.

    Randomised contacts, one every nine days, arrive with the given delays and have no arrival time.
    """
    placed = small_shop_orders(12, 200, 3)
    placed["loaded_at"] = placed.ordered_at + pd.to_timedelta(np.resize(loaded, len(placed)), "D")
    placed["status"] = "completed"
    again = placed.head(len(corrected)).copy()
    again["loaded_at"] += pd.to_timedelta(corrected, "D")
    again["status"], again["amount"] = "returned", 1.0
    touches = pd.DataFrame({"customer_id": [f"c{i % 12}" for i in range(len(contacted))]})
    touches["touched_at"] = LAST - pd.to_timedelta(9 * np.arange(len(contacted)) + 1, "D") + pd.Timedelta(hours=9)
    touches["arrives_at"] = touches.touched_at + pd.to_timedelta(contacted, "D")
    touches = touches.assign(touch_id=touches.index.astype(str), campaign_id="c", action="coupon", propensity=0.5)
    texts = dict.fromkeys(("customer_id", "touch_id", "campaign_id", "action"), "string")
    return {"orders": pd.concat([placed, again], ignore_index=True), "campaign_touches": touches.astype(texts)}


#: Tables of the shop that overwrites.
OVERWRITTEN = ("order_features", "engagement_features", "customer_features", "churn_labels", "int_customer_events")


def shop_that_overwrites(moment: str) -> dict[str, pd.DataFrame]:
    """Raw tables at a time, without arrival times: statuses and attributes are set in place.

    The orders of customer `dated` have no time of day, those of `rich` are huge, and `refunded` gets money back.
    """
    base = small_shop_orders(12, 200, 3).assign(status="completed")
    placed = [
        ("first", "early", "2023-05-30 00:05", 5.0, "completed"),
        ("again1", "again", "2023-04-20 10:00", 5.0, "completed"),
        ("again2", "again", "2023-05-30 15:00", 5.0, "completed"),
        ("x1", "x", "2023-06-20 10:00", 5.0, "completed"),
        ("x2", "x", "2023-07-01 10:00", 5.0, "completed" if moment <= "2023-07-10" else "cancelled"),
        ("y1", "y", "2023-07-01 10:00", 5.0, "completed" if moment <= "2023-07-12" else "cancelled"),
        ("dated1", "dated", "2023-07-01 00:00", 5.0, "completed"),
        *[(f"rich{i}", "rich", "2023-07-01 10:00", 9.9e11, "completed") for i in range(120)],
        ("refunded1", "refunded", "2023-07-01 10:00", 100.0, "completed"),
        # two refunds at once, one of which is written twice
        *[("refunded1", "refunded", "2023-07-10 10:00", amount, "completed") for amount in (-30.0, -10.0, -10.0)],
        ("given1", "given", "2023-06-20 10:00", 5.0, "completed"),
        ("given2", "given", "2023-07-01 10:00", 50.0, "completed" if moment <= "2023-07-10" else "refund"),
    ]
    more = pd.DataFrame(placed, columns=["order_id", "customer_id", "ordered_at", "amount", "status"])
    known = pd.concat([base, more.assign(ordered_at=pd.to_datetime(more.ordered_at))], ignore_index=True)
    # ten views of 9 July, and one of each of the first five days of July, which arrive on 10 July; on 11 July,
    # a visitor of June turns out to be x, and a visit arrives that is older than sequences reach
    days = pd.Series(["2023-07-09"] * 10 + [f"2023-07-0{n}" for n in range(1, 6)] + ["2023-06-15", "2023-01-05"])
    events = pd.DataFrame({"customer_id": "x", "event_type": "view", "occurred_at": pd.to_datetime(days)})
    events["event_id"] = events.index.astype(str)
    events.loc[15, "customer_id"] = "nobody yet" if moment <= "2023-07-11" else "x"
    events.loc[16, "customer_id"] = "dated"
    arrived_by = pd.Series([*["2023-07-09"] * 10, *["2023-07-10"] * 5, "2023-06-15", "2023-07-11"])
    tier = "gold" if moment <= "2023-07-12" else "closed"
    # on 12 July all reviews are loaded again, and one is changed
    again = ["2023-06-26"] * 2 if moment <= "2023-07-11" else ["2023-07-11 22:00"] * 2
    reviews = pd.DataFrame({"review_id": ["same", "changed"], "customer_id": "x", "loaded_at": pd.to_datetime(again)})
    reviews["reviewed_at"], reviews["review_text"] = pd.Timestamp("2023-06-25"), ["fine", f"better in {again[0][:7]}"]
    return {
        "reviews": reviews,
        "orders": known[known.ordered_at < moment],
        "events": events[arrived_by < moment],
        "customers": pd.DataFrame({"customer_id": ["c0", "x"], "tier": tier}),
        "order_items": pd.DataFrame(
            {"order_id": ["rich0"] * 120, "product_id": "p", "quantity": 9.9e11, "unit_price": 1.0}
        ),
    }


@pytest.fixture(scope="module")
def overwriting(tmp_path_factory) -> tuple[Shop, str]:
    """Builds of six days of the shop that overwrites, and what they wrote; built anew at the end."""
    shop, printed = Shop(tmp_path_factory.mktemp("overwriting") / "home"), io.StringIO()
    attributes = {"churn__customer_attributes": ["tier"]}
    shop.write(**shop_that_overwrites("2023-05-30 06:00"))
    # built in the morning of the last order
    build(shop, None, tables=[*OVERWRITTEN, "churn_label_audit"], **attributes)
    save(shop, shop.home / "2023-05-30", ["churn_label_audit"])
    with redirect_stdout(printed):
        for day in ("2023-07-10", "2023-07-11", "2023-07-12"):
            build(shop.write(**shop_that_overwrites(day)), day, "--no-quiet", tables=OVERWRITTEN, **attributes)
        # the changes after 12 July are first seen by a build for a day before it
        shop.write(**shop_that_overwrites("2023-07-18"))
        for day in ("2023-07-06", "2023-07-18"):
            build(shop, day, "--no-quiet", tables=OVERWRITTEN, **attributes)
    save(shop, shop.home / "daily", OVERWRITTEN)
    build(shop, "2023-07-18", "--full-refresh", tables=OVERWRITTEN, **attributes)
    save(shop, shop.home / "anew", OVERWRITTEN)
    return shop, printed.getvalue()


def by_date(overwriting: tuple[Shop, str], customer: str, columns: str) -> dict[str, tuple]:
    """Values of features of a customer by as-of date."""
    found = rows_of(
        overwriting[0],
        f"select as_of_date::varchar, {columns} from order_features join engagement_features "
        f"using (customer_id, as_of_date) join customer_features using (customer_id, as_of_date) "
        f"where customer_id = '{customer}'",
    )
    return {row[0]: row[1:] for row in found}


def test_daily_builds_of_a_shop_that_overwrites_equal_a_full_build(overwriting):
    home = overwriting[0].home
    assert differences(home / "daily", home / "anew", OVERWRITTEN) == {}


def test_a_status_set_in_place_counts_from_the_build_on_that_saw_it(overwriting):
    known = by_date(overwriting, "x", "orders_total, days_since_last_order")
    assert known["2023-07-10"] == (2, 9)
    assert known["2023-07-11"] == (1, 21)
    assert known["2023-07-12"] == (1, 22)
    known = by_date(overwriting, "y", "orders_total, days_since_last_order")
    assert (known["2023-07-06"], known["2023-07-12"], known.get("2023-07-18")) == ((1, 5), (1, 11), None)


def test_an_attribute_set_in_place_counts_from_the_build_on_that_saw_it(overwriting):
    tiers = by_date(overwriting, "c0", "attributes[1]")
    assert tiers.pop("2023-07-18") == ("tier=closed",)
    assert {"2023-04-17", "2023-05-15", "2023-07-12"} <= tiers.keys()
    assert set(tiers.values()) == {("tier=gold",)}


def test_a_review_that_is_loaded_again_is_known_since_it_arrived_first(overwriting):
    known = "select event_id, known_at::varchar from int_customer_events where event_type = 'review'"
    assert dict(rows_of(overwriting[0], known)) == {
        "reviews:same": "2023-06-26 00:00:00",
        "reviews:changed": "2023-07-11 22:00:00",
    }


def test_visits_that_come_or_change_after_the_lookback_window_are_counted_and_reported(overwriting):
    assert by_date(overwriting, "x", "view_events_90d")["2023-07-12"] == (16,)
    assert by_date(overwriting, "dated", "days_since_last_visit")["2023-07-12"] == (188,)
    for days, events in (("5 days, 2023-07-01 to 2023-07-05", 5), ("2 days, 2023-01-05 to 2023-06-15", 1)):
        what = "events arrived, disappeared or got another customer after churn__lookback_days (3)"
        assert overwriting[1].count(f"events: on {days}, {what}, {events:+d} in all") == 1


def test_a_window_that_ends_within_the_last_day_is_not_over(overwriting):
    audit = "select status from '$home/2023-05-30/churn_label_audit.parquet' "
    audit += "where customer_id = 'again' and as_of_date = '2023-05-01'"
    assert rows(overwriting[0], audit) == [("censored",)]
    later = "select status from churn_label_audit where customer_id = 'again' and as_of_date = '2023-05-01'"
    assert rows_of(overwriting[0], later) == [("retained",)]


def test_sums_of_the_largest_amounts_fit(overwriting):
    assert by_date(overwriting, "rich", "spend_total, items_90d")["2023-07-12"] == (120 * 9.9e11, 120 * 9.9e11)


def test_what_a_shop_does_not_record_is_null(overwriting):
    shares = by_date(overwriting, "dated", "night_order_share, coupon_order_share_90d, sessions_90d")
    assert shares["2023-07-12"] == (None, None, None)
    assert by_date(overwriting, "x", "night_order_share, visit_days_90d")["2023-07-12"] == (0, 7)


def test_spend_is_net_of_refunds_from_their_date_on(overwriting):
    spend = by_date(overwriting, "refunded", "orders_total, spend_total")
    assert (spend["2023-07-10"], spend["2023-07-11"]) == ((1, 100), (1, 60))


def test_an_order_whose_row_becomes_a_refund_is_given_back_from_then_on(overwriting):
    known = by_date(overwriting, "given", "orders_total, spend_total, returned_order_share")
    assert known["2023-07-10"] == (2, 55, 0)
    assert known["2023-07-11"] == known["2023-07-12"] == known["2023-07-18"] == (1, 5, 0.5)


def test_what_other_code_reads_otherwise_is_no_change_of_the_shop(shop):
    built = {"tables": ["order_features", "customer_features"], "churn__customer_attributes": ["tier"]}
    customers = pd.DataFrame({"customer_id": [f"c{i}" for i in range(12)], "tier": "gold"})
    with patch.dict(os.environ, shop.env):
        amounts = manifest(shop.home).macros["macro.churn_radar.read_number"]
    code, printed = amounts.macro_sql, io.StringIO()
    amounts.macro_sql = code.replace("as_double(expression)", "as_double('2 * ' ~ expression)")
    build(shop.write(orders=with_late_rows("2023-07-11", "2023-06-01"), customers=customers), "2023-07-10", **built)
    amounts.macro_sql = code
    customers.loc[3, "tier"] = "closed"
    with redirect_stdout(printed):
        build(shop.write(customers=customers), "2023-07-11", "--no-quiet", **built)
    assert rows_of(shop, "select count(*) from int_order_changes") == [(0,)]
    spend = "select distinct spend_total from order_features where customer_id = 'late'"
    assert rows_of(shop, spend) == [(5,)]
    line = (
        r"orders: (\d+) of \1 rows are read otherwise than by the code of the last build, for example order_id 2023-06-"
    )
    assert re.search(line, printed.getvalue())
    # few attributes differ, and so the shop has changed them
    assert rows_of(shop, "select customer_id, attributes[1] from int_attribute_changes") == [("c3", "tier=gold")]


@settings(max_examples=int(os.environ.get("CHURN_EXAMPLES", "2")), deadline=None, database=None)
@given(
    loaded=st.lists(st.integers(0, 70), min_size=1, max_size=20),
    corrected=st.lists(st.integers(0, 90), max_size=30),
    contacted=st.lists(st.integers(0, 60), max_size=12),
    before=st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True),
    shuffled=st.randoms(use_true_random=False),
)
def test_any_order_of_arrivals_and_builds_equals_a_full_build(loaded, corrected, contacted, before, shuffled):
    with tempfile.TemporaryDirectory() as folder:
        shop, tables = Shop(Path(folder) / "home"), small_shop(loaded, corrected, contacted)
        days = [f"{LAST - pd.Timedelta(days=n):%Y-%m-%d}" for n in before]
        shuffled.shuffle(days)
        for number, day in enumerate([*days, f"{LAST:%Y-%m-%d}"]):
            # the rows that have arrived by then, in random order
            known = arrived(tables, pd.Timestamp(day))
            shop.write(**{n: t.iloc[shuffled.sample(range(len(t)), len(t))] for n, t in known.items()})
            # a build for an earlier day finds fewer rows
            build(shop, day, tables=FEW, churn__max_row_drop=1)
            save(shop, shop.home / f"build{number}", FEW)
        build(shop, f"{LAST:%Y-%m-%d}", "--full-refresh", tables=FEW)
        last, rebuilt = shop.home / f"build{len(days)}", save(shop, shop.home / "rebuilt", FEW)
        assert differences(last, rebuilt, FEW) == {}
        for number, day in enumerate(days):
            if LAST - pd.Timestamp(day) < pd.Timedelta(days=KEPT):
                for table in ("order_features", "forecast_features"):
                    was = f"from '$home/build{number}/{table}.parquet' where as_of_date = '{day}'"
                    now = f"from '$home/rebuilt/{table}.parquet' where as_of_date = '{day}'"
                    assert rows(shop, f"select count(*) from (({was}) except ({now}))") == [(0,)], (day, table)


@pytest.mark.parametrize("seed", range(int(os.environ.get("CHURN_SHOPS", "4"))))
def test_random_shops_have_the_features_that_their_histories_say(seed, tmp_path):
    shop, truth, tables = (
        Shop(tmp_path / "home"),
        RandomShop(seed),
        ("order_features", "engagement_features", "churn_labels"),
    )
    with patch.dict(os.environ, shop.env):
        amounts = manifest(shop.home).macros["macro.churn_radar.fixed_point"]
    code = amounts.macro_sql
    for day in truth.days:
        # older code doubled amounts; the snapshots that it made are built anew
        was_wrong = truth.code_changes and day == truth.days[0]
        amounts.macro_sql = code.replace("cast({{ expression }}", "cast(2 * {{ expression }}") if was_wrong else code
        build(shop.write(**truth.raw(day)), f"{day:%Y-%m-%d}", tables=tables)
        if not was_wrong:
            check_features(shop, truth, day, day)
    daily = save(shop, tmp_path / "daily", tables)
    labels = table_of(shop, "from churn_labels")
    expected = truth.expected_labels(sorted(labels.as_of_date.unique()))
    key = pd.MultiIndex.from_arrays([labels.as_of_date, labels.customer_id.astype(int)])
    np.testing.assert_array_equal(labels.churned.astype(float), expected.reindex(key))
    build(shop, f"{truth.days[-1]:%Y-%m-%d}", "--full-refresh", tables=tables)
    assert differences(daily, save(shop, tmp_path / "anew", tables), tables) == {}
    for day in truth.days:
        check_features(shop, truth, day, truth.days[-1])


def check_features(shop: Shop, truth: RandomShop, day: pd.Timestamp, built_on: pd.Timestamp) -> None:
    """Check the features of all customers at the as-of date of a build."""
    expected = truth.expected(day, built_on)
    joined = "from order_features join engagement_features using (customer_id, as_of_date)"
    features = table_of(shop, f"{joined} where as_of_date = date '{day:%Y-%m-%d}'")
    features = features.set_index(features.customer_id.astype(int)).sort_index()[list(expected)]
    np.testing.assert_allclose(
        features.astype(float), expected.sort_index().astype(float), err_msg=f"{truth.storage} {day}"
    )
