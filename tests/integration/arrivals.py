"""Shops whose rows arrive bit by bit, built day by day in this process."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from unittest.mock import patch

import duckdb
import pandas as pd
from shop import PROJECT, Shop

#: Tables that a build of features and labels makes, whatever it had built before.
TABLES = (
    "int_customer_daily_activity",
    "int_customer_daily_products",
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
#: Those that read words besides.
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
#: When a row of a table happens, where it has no time of arrival.
HAPPENS = {
    "events": "occurred_at",
    "support_tickets": "opened_at",
    "campaign_touches": "touched_at",
    "customers": "signed_up_at",
}


def arrived(tables: Mapping[str, pd.DataFrame], moment: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """What a shop has at a moment: rows by ``arrives_at``, else ``loaded_at``, else when they happen."""
    known = {}
    for name, table in tables.items():
        if name == "order_items":
            known[name] = table
            continue
        happens = table[HAPPENS[name]] if name in HAPPENS else table.loaded_at
        at = table.arrives_at if "arrives_at" in table else happens
        known[name] = table[at < moment].drop(columns="arrives_at", errors="ignore")
    return known


def build(shop: Shop, as_of_date: str, *arguments: str, tables: Iterable[str] = TABLES, **variables: object) -> None:
    """Build tables as of a date, in this process: starting dbt anew takes longer than a small shop."""
    from dbt.cli.main import dbtRunner

    select = [f"+{name}" for name in tables]
    variables = {"churn__as_of_date": as_of_date, **variables}
    without_tests = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    command = ["--quiet", "build", *without_tests, "--select", *select, "--vars", json.dumps(variables), *arguments]
    with patch.dict(os.environ, shop.env):
        done = dbtRunner().invoke([*command, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)])
    if done.exception:
        raise done.exception
    failed = [f"{r.node.name}: {r.message}" for r in done.result or () if r.status not in ("success", "pass")]
    assert done.success, "\n".join(failed)


def save(shop: Shop, folder: Path, tables: Iterable[str] = TABLES) -> Path:
    """Copy tables to Parquet files."""
    folder.mkdir(parents=True)
    with duckdb.connect(shop.home / "churn_radar.duckdb") as connection:
        for name in tables:
            connection.sql(f"copy {name} to '{folder / name}.parquet'")
    return folder


def differences(one: Path, other: Path, tables: Iterable[str] = TABLES) -> dict[str, int]:
    """Rows that are in one of two folders and not in the other, by table; tables that are equal are left out."""
    found = {}
    with duckdb.connect() as connection:
        for name in tables:
            a, b = f"from '{one / name}.parquet'", f"from '{other / name}.parquet'"
            rows = connection.sql(f"select count(*) from ((({a}) except all ({b})) union all (({b}) except all ({a})))")
            if count := rows.fetchone()[0]:
                found[name] = count
    return found
