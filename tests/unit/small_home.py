"""A small home with everything in it: warehouse, scores, models, feature store, events."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
from builders import make_model, make_rows
from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, ValueType
from feast.types import Bytes, String

from inference.event_log.events import Event
from inference.event_log.export import export_home
from inference.event_log.sqlite_log import SqliteEventLog
from inference.feature_store.client import (
    DEFINITIONS_TAG,
    HISTORIES_VIEW,
    MODEL_SERVICE,
    SCORES_SERVICE,
    SCORES_VIEW,
    SHOP_VIEW,
    UPDATES_SERVICE,
    definitions_fingerprint,
    open_store,
)
from inference.home_format import make_home
from inference.lock import LOCK
from inference.pseudonyms import salt
from inference.registry import registry

CUSTOMERS = [f"c{i:04}" for i in range(120)]
AS_OF = datetime.now(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
SCORE = {
    "churn_probability": 0.25,
    "risk_band": "low",
    "risk_percentile": 0.5,
    "horizon_days": 30,
    "expected_spend": 40.0,
    "value_at_risk": 10.0,
    "reason_1": "last order 3 days ago",
    "reason_2": None,
    "reason_3": None,
    "model_version": "2",
}


def fill(folder: Path) -> None:
    """Fill the home folder, which has an empty model registry and is ``CHURN_HOME``."""
    make_home()
    salt()
    rows = make_rows(n_snapshots=2)
    for weeks in (1, 2):
        registry.register(make_model(rows), True, "better", (AS_OF - timedelta(weeks=4 - weeks)).date())
    registry.read_snapshot()
    write_tables(folder)
    load_online(folder)
    log = SqliteEventLog()
    log.append_all([[event(1), event(2)]])
    log.close()
    export_home()


def event(number: int) -> Event:
    """An order of a customer."""
    order = {"order_id": f"o{number}", "customer_id": "c0001", "ordered_at": f"{AS_OF:%Y-%m-%d}T10:00:00Z", "amount": 5}
    return Event(f"e{number}", "c0001", {"orders": [order]})


def write_tables(folder: Path) -> None:
    for name in ("raw", "published", "features", "target"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "target" / "manifest.json").write_text(json.dumps({"metadata": {"adapter_type": "duckdb"}}))
    scores = pd.DataFrame({"customer_id": CUSTOMERS, "churn_probability": 0.25, "as_of_date": AS_OF.date()})
    with duckdb.connect(folder / "churn_radar.duckdb") as connection:
        connection.sql("create table churn_scores as from scores")
    scores.to_parquet(folder / "published" / "churn_scores.parquet", index=False)
    scores.rename(columns={"customer_id": "order_id"}).to_parquet(folder / "raw" / "orders.parquet", index=False)


def load_online(folder: Path) -> None:
    rows = pd.DataFrame({"customer_id": CUSTOMERS, "score": json.dumps(SCORE)})
    rows = rows.assign(feature_snapshot_at=AS_OF, scored_at=AS_OF)
    file = folder / "published" / "online_scores.parquet"
    rows.to_parquet(file, index=False)
    entity = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    views = {
        name: FeatureView(
            name=name,
            entities=[entity],
            schema=[Field(name=field, dtype=dtype)],
            source=FileSource(name=f"{name}_parquet", path=str(file), timestamp_field="feature_snapshot_at"),
        )
        for name, field, dtype in (
            (SCORES_VIEW, "score", String),
            (HISTORIES_VIEW, "history", Bytes),
            (SHOP_VIEW, "facts", String),
        )
    }
    store = open_store()
    store.apply(
        [
            Project(name="churn_radar", tags={DEFINITIONS_TAG: definitions_fingerprint()}),
            entity,
            *views.values(),
            FeatureService(name=SCORES_SERVICE, features=[views[SCORES_VIEW]]),
            FeatureService(name=UPDATES_SERVICE, features=[views[HISTORIES_VIEW], views[SHOP_VIEW]]),
            FeatureService(name=MODEL_SERVICE, features=[views[SHOP_VIEW]], tags={"columns": "a,b"}),
        ]
    )
    store.write_to_online_store(SCORES_VIEW, rows)


def content(folder: Path) -> dict[str, tuple]:
    """Mode of everything in a folder but the lock, and the bytes and time of files."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.name != LOCK}
    return {
        name: (path.stat().st_mode, *((path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else ()))
        for name, path in found.items()
    }
