"""Shops whose rows arrive over time, built day by day in this process."""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from unittest.mock import patch

import duckdb
import pandas as pd
import parsing
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from shop import PROJECT, Shop

PROJECT_OPTIONS = ("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT))

#: Tables of features and labels, which must not depend on earlier builds.
TABLES = (
    "int_customer_orders",
    "int_customer_daily_events",
    "int_snapshot_dates",
    "int_purchase_histories",
    "int_newcomers",
    "purchase_forecasts",
    "order_features",
    "engagement_features",
    "campaign_features",
    "forecast_features",
    "churn_labels",
)
#: Tables that depend on texts as well.
TEXT_TABLES = (
    "review_embeddings",
    "text_pools",
    "text_quotes",
    "review_features",
    "support_features",
    "text_features",
    "sequence_features",
    "searchable_texts",
)
#: Event time of tables without an arrival time.
EVENT_TIMES = {
    "events": "occurred_at",
    "support_tickets": "opened_at",
    "campaign_touches": "touched_at",
    "customers": "signed_up_at",
}


def arrived(tables: Mapping[str, pd.DataFrame], moment: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """Rows that have arrived by a time: by ``arrives_at``, else ``loaded_at``, else the event time; items by orders."""
    known = {}
    for name, table in tables.items():
        if name != "order_items":
            event_time = table[EVENT_TIMES[name]] if name in EVENT_TIMES else table.loaded_at
            at = table.arrives_at if "arrives_at" in table else event_time
            known[name] = table[at < moment].drop(columns="arrives_at", errors="ignore")
    if (items := tables.get("order_items")) is not None:
        known["order_items"] = items[items.order_id.isin(known["orders"].order_id)]
    return known


@cache
def manifest(home: Path) -> Manifest:
    """The project as parsed for a shop: its raw tables are paths of its home."""
    with parsing.shared(home, PROJECT, os.environ, ("dbt",)):
        return dbtRunner().invoke(["--quiet", "parse", *PROJECT_OPTIONS]).result


def build(
    shop: Shop, as_of_date: str | None, *arguments: str, tables: Iterable[str] = TABLES, **variables: object
) -> None:
    """Build tables as of a date, in this process, as starting dbt takes longer than building a small shop."""
    select = [f"+{name}" for name in tables]
    variables = {"churn__as_of_date": as_of_date, **variables}
    without_tests = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    command = ["build", "--quiet", *without_tests, "--select", *select, "--vars", json.dumps(variables), *arguments]
    with patch.dict(os.environ, shop.env):
        done = dbtRunner(manifest(shop.home)).invoke([*command, *PROJECT_OPTIONS])
    if done.exception:
        raise done.exception
    failed = [f"{r.node.name}: {r.message}" for r in done.result or () if r.status not in ("success", "pass")]
    assert done.success, "\n".join(failed)


def save(shop: Shop, folder: Path, tables: Iterable[str] = TABLES) -> Path:
    """Copy tables to Parquet files."""
    folder.mkdir(parents=True)
    with duckdb.connect(shop.warehouse) as connection:
        connection.execute(f"use {shop.schema}")
        for name in tables:
            connection.sql(f"copy {name} to '{folder / name}.parquet'")
    return folder


def differences(one: Path, other: Path, tables: Iterable[str] = TABLES) -> dict[str, int]:
    """Number of rows that are in only one of two folders, by table; equal tables are left out."""
    counts = {}
    with duckdb.connect() as connection:
        for name in tables:
            a, b = f"from '{one / name}.parquet'", f"from '{other / name}.parquet'"
            rows = connection.sql(f"select count(*) from ((({a}) except all ({b})) union all (({b}) except all ({a})))")
            if count := rows.fetchone()[0]:
                counts[name] = count
    return counts
