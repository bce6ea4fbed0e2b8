"""Building day by day, with rows that come late, are corrected or go, equals building all at once."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from arrivals import TABLES, TEXT_TABLES, arrived, build, differences, save
from shop import Shop
from test_leaks import shop_with_everything

DAYS = ("2023-09-04", "2023-09-05", "2023-09-06")


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
    """Three days of builds, on what had arrived by each."""
    shop, tables = Shop(tmp_path_factory.mktemp("daily") / "home"), shop_with_corrections()
    for day in DAYS:
        shop.write(**arrived(tables, pd.Timestamp(day)))
        build(shop, day, tables=(*TABLES, *TEXT_TABLES))
        save(shop, shop.home / day, (*TABLES, *TEXT_TABLES))
    return shop


def rows(shop: Shop, query: str) -> list[tuple]:
    with duckdb.connect() as connection:
        return connection.sql(query.replace("$home", str(shop.home))).fetchall()


def test_day_by_day_equals_all_at_once(daily, tmp_path):
    build(daily, DAYS[-1], "--full-refresh", tables=(*TABLES, *TEXT_TABLES))
    anew = save(daily, tmp_path / "anew", (*TABLES, *TEXT_TABLES))
    assert differences(daily.home / DAYS[-1], anew, (*TABLES, *TEXT_TABLES)) == {}


def test_snapshots_stay_and_new_ones_are_added(daily):
    dates = rows(daily, f"select as_of_date::varchar, is_newest from '$home/{DAYS[-1]}/int_snapshot_dates.parquet' "
                        "where was_asked order by 1")
    assert dates == [(DAYS[0], False), (DAYS[1], False), (DAYS[2], True)]
    for table in ("order_features", "campaign_features", "support_features"):
        changed = rows(
            daily,
            f"select count(*) from (from '$home/{DAYS[0]}/{table}.parquet' where as_of_date = '{DAYS[0]}' except "
            f"from '$home/{DAYS[-1]}/{table}.parquet')",
        )
        assert changed == [(0,)], table
