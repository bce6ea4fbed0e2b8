"""Daily incremental builds with late, corrected and deleted rows equal one full build."""

import os
import shutil
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import one_customer
import pandas as pd
import pytest
from arrivals import TABLES, TEXT_TABLES, arrived, build, differences, save
from hypothesis import given, settings
from hypothesis import strategies as st
from one_customer import Warehouse
from random_shops import RandomShop
from shop import PROJECT, Shop, orders, small_shop_orders
from test_leaks import shop_with_everything

from inference.pseudonyms import duckdb_salt_sql
from inference.realtime.sequences import SequenceShape

DAYS = ("2023-09-04", "2023-09-05", "2023-09-06")
#: churn__keep_snapshots_days
KEPT = 35
FEW = ("order_features", "forecast_features", "churn_labels")
LAST = pd.Timestamp("2023-07-20")


def shop_with_corrections(seed: int = 2) -> dict[str, pd.DataFrame]:
    """All raw tables; some orders and reviews are corrected days or months later, some events come two days late."""
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
    tables["events"] = events.assign(
        arrives_at=events.occurred_at + pd.to_timedelta(rng.integers(0, 3, len(events)), "D")
    )
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
        assert list(one_customer.differences(warehouse, 730, SequenceShape(180, 32, 4))) == []


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


def test_a_changed_setting_rebuilds_everything(shop, tmp_path):
    shop.write(orders=with_late_rows("2023-07-11", "2023-06-01"))
    build(shop, "2023-07-10", tables=FEW)
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


def test_an_overwritten_attribute_counts_from_the_build_on_that_saw_it(shop):
    shop.write(orders=with_late_rows("2023-07-10", "2023-07-01"))
    attributes = {"churn__customer_attributes": ["tier"], "churn__lookback_days": 3}
    for day, tier in (("2023-07-10", "gold"), ("2023-07-18", "closed")):
        shop.write(customers=pd.DataFrame({"customer_id": ["late"], "tier": [tier]}))
        build(shop, day, tables=["customer_features"], **attributes)
    asked = (
        "from customer_features where customer_id = 'late' and as_of_date in ('2023-07-10', '2023-07-18') order by 1"
    )
    known = [("2023-07-10", "tier=gold"), ("2023-07-18", "tier=closed")]
    assert rows_of(shop, f"select as_of_date::varchar, attributes[1] {asked}") == known
    build(shop, "2023-07-18", "--full-refresh", tables=["customer_features"], **attributes)
    assert rows_of(shop, f"select as_of_date::varchar, attributes[1] {asked}") == known


def test_a_changed_macro_rebuilds_what_depends_on_it(shop, tmp_path):
    copy = tmp_path / "project"
    for name in ("models", "python_models", "macros", "seeds"):
        shutil.copytree(PROJECT / name, copy / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(PROJECT / name, copy / name)
    changed = Shop(shop.home, copy).write(orders=with_late_rows("2023-07-11", "2023-06-01"))
    days = "select distinct days_since_last_order - date_diff('day', last_order_date, as_of_date) from order_features "
    days += "join int_customer_snapshots using (customer_id, as_of_date)"
    file = copy / "macros" / "cross_database.sql"
    code, difference = file.read_text(), "({{ later }} - {{ earlier }})"
    assert difference in code
    for day, added in (("2023-07-10", 0), ("2023-07-20", 1000)):
        file.write_text(code.replace(difference, f"({difference} + {added})"))
        changed.dbt("run", "--select", "+order_features", churn__as_of_date=day)
        assert rows_of(shop, days) == [(added,)]


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
            build(shop, day, tables=FEW)
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
    for day in truth.days:
        shop.write(**truth.raw(day))
        build(shop, f"{day:%Y-%m-%d}", tables=tables)
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
