"""One shop in two warehouses: its raw tables, and comparisons of the tables built from them."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from shop import Shop
from test_incremental import shop_with_corrections

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog
from inference.pseudonyms import ERASED_CUSTOMERS, duckdb_salt_sql

DAYS = ("2023-09-04", "2023-09-05")
WITHOUT_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
#: Columns with times and fingerprints of a build, which differ between builds.
OF_A_BUILD = ("scored_at", "feature_snapshot_at", "decided_at", "manifest_hash", "run_id")
#: JSON columns, in which whole numbers may be written with or without a decimal point.
JSON = ("history", "score", "facts", "row_content")

#: Tables and views that must be equal in all warehouses, with their keys.
TABLES = [
    ("stg_orders", ["order_id", "version"]),
    ("stg_reviews", ["review_id", "version"]),
    ("int_customer_orders", ["order_id", "version"]),
    ("int_customer_daily_events", ["customer_id", "activity_date"]),
    ("int_customer_snapshots", ["customer_id", "as_of_date"]),
    ("int_contact_outcomes", ["touch_id"]),
    ("int_newcomers", ["customer_id", "as_of_date"]),
    ("order_features", ["customer_id", "as_of_date"]),
    ("engagement_features", ["customer_id", "as_of_date"]),
    ("review_features", ["customer_id", "as_of_date"]),
    ("support_features", ["customer_id", "as_of_date"]),
    ("campaign_features", ["customer_id", "as_of_date"]),
    ("customer_features", ["customer_id", "as_of_date"]),
    ("forecast_features", ["customer_id", "as_of_date"]),
    ("text_features", ["customer_id", "as_of_date"]),
    ("sequence_features", ["customer_id", "as_of_date"]),
    ("model_features", ["customer_id", "as_of_date"]),
    ("churn_labels", ["customer_id", "as_of_date"]),
    ("searchable_texts", ["text_id"]),
    ("newcomer_scores", ["customer_id"]),
    ("churn_feature_drift", ["as_of_date", "model_version", "feature"]),
    ("retention_experiment_results", ["campaign_id", "segment", "action"]),
    ("retention_actions", ["customer_id", "as_of_date"]),
    ("retention_recommendations", ["customer_id", "rank"]),
    ("churn_alerts", ["alert_id"]),
    ("online_histories", ["customer_id"]),
    ("online_shop", ["shop_id"]),
]


@dataclass
class DuckDBShop(Shop):
    """A shop whose session has the salt, so that staging views can be read."""

    @property
    def salt(self) -> str:
        return (self.home / "salt").read_text().strip()

    def query(self, text: str) -> pd.DataFrame:
        with duckdb.connect(self.home / "churn_radar.duckdb", read_only=True) as connection:
            connection.execute(duckdb_salt_sql(self.salt))
            return connection.sql(text).df()

    def table(self, name: str) -> pd.DataFrame:
        return self.query(f"select * from {name}")


def raw_tables() -> dict[str, pd.DataFrame]:
    """All raw tables, with corrections and randomised contacts."""
    tables = shop_with_corrections()
    touches = tables["campaign_touches"]
    randomised = touches.assign(action=np.where(touches.index % 2, "mail", "holdout"), propensity=0.5, cost=0.25)
    return {**tables, "campaign_touches": randomised}


def accept_order(home: Path) -> None:
    """Append an order to the event log, as the service does."""
    now = datetime.now(UTC).isoformat()
    order = {"order_id": "new", "customer_id": "c1", "ordered_at": now, "amount": 5.0, "status": "completed"}
    log = SqliteEventLog(home / "events" / "log.db")
    log.append_all([[Event("event", "c1", {"orders": [order]})]])
    log.close()


def erase_customer(home: Path, name: str) -> None:
    """Register a customer as erased, as ``churn-radar erase`` does."""
    salt = (home / "salt").read_text().strip()
    with duckdb.connect() as connection:
        file = home / ERASED_CUSTOMERS
        connection.execute(f"copy (select sha256('{salt}erased:{name}') as customer_hash) to '{file}' (format parquet)")


def comparable(value: object) -> object:
    if isinstance(value, np.ndarray | list):
        return tuple(comparable(item) for item in value)
    return None if pd.isna(value) else value


def n_different(name: str, ours: pd.Series, theirs: pd.Series) -> int:
    """Number of rows in which a column differs: numbers by more than 1e-9 relative, other values at all."""
    if name in JSON and ours.dtype == object:
        ours, theirs = ours.map(json.loads), theirs.map(json.loads)
        return sum(not equal(a, b) for a, b in zip(ours, theirs, strict=True))
    if pd.api.types.is_float_dtype(ours) or pd.api.types.is_float_dtype(theirs):
        return int((~np.isclose(ours.astype(float), theirs.astype(float), rtol=1e-9, atol=0, equal_nan=True)).sum())
    return sum(comparable(a) != comparable(b) for a, b in zip(ours, theirs, strict=True))


def equal(a: object, b: object) -> bool:
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(equal(*pair) for pair in zip(a, b, strict=True))
    return a == pytest.approx(b, rel=1e-9, nan_ok=True) if isinstance(a, float) else a == b


def rows_by_key(table: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    return table.sort_values(key, ignore_index=True).drop(columns=[c for c in OF_A_BUILD if c in table])


def check_table(shops: Sequence[DuckDBShop], name: str, key: list[str]) -> None:
    """Check that both shops have the same rows in a table."""
    ours, theirs = (rows_by_key(shop.table(name), key) for shop in shops)
    assert len(ours) > 0
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)
    assert {c: n for c in ours if (n := n_different(c, ours[c], theirs[c]))} == {}


def check_scores(shops: Sequence[DuckDBShop]) -> None:
    """Check that both shops have the same scores, in the warehouse and in the published file."""
    ours, theirs = (rows_by_key(shop.table("churn_scores"), ["customer_id", "as_of_date"]) for shop in shops)
    assert len(ours) > 50
    pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-6, check_dtype=False)
    published = [pd.read_parquet(shop.published) for shop in shops]
    assert published[0].dtypes.to_dict() == published[1].dtypes.to_dict()
    assert len(published[0]) == len(published[1]) == len(ours)


def check_feature_files(shops: Sequence[DuckDBShop]) -> None:
    """Check that the exported feature files have the same columns and types."""
    ours, theirs = shops
    files = sorted(file.name for file in (ours.home / "features").glob("*.parquet"))
    assert files == sorted(file.name for file in (theirs.home / "features").glob("*.parquet"))
    with duckdb.connect() as connection:
        for file in files:
            columns = [connection.read_parquet(str(shop.home / "features" / file)) for shop in shops]
            assert columns[0].columns == columns[1].columns
            assert columns[0].types == columns[1].types


def check_accepted_and_erased(shops: Sequence[DuckDBShop]) -> None:
    """Check that the accepted order is in staging and the erased customer is not."""
    for shop in shops:
        staged = shop.table("stg_orders")
        assert (staged.order_id == "new").sum() == 1
        assert "c1" in set(staged.customer_id)
        assert "c2" not in set(staged.customer_id)


def check_feast(shops: Sequence[DuckDBShop], stores: list[str]) -> None:
    """Check that Feast returns equal values for both shops; ``stores`` are the types of the second shop."""
    asked = f"{DAYS[-1]}T00:00:00"
    answers = []
    for shop in shops:
        shop.run("feast", "-c", "feature_repo", "apply", "--skip-source-validation")
        shop.run("feast", "-c", "feature_repo", "materialize", asked, asked)
        script = Path(__file__).with_name("ask_feast.py")
        done = subprocess.run([sys.executable, script], env=shop.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    ours, theirs = answers
    assert ours.pop("stores") == ["duckdb", "sqlite"]
    assert theirs.pop("stores") == stores
    assert len(ours["online"]) > 50
    assert equal(ours, theirs)
