"""A home folder as builds of a large shop leave it: every file that the desk reads, shaped by its contract."""

import json
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import yaml
from desk_tables import (
    ACTIONS,
    EXPERIMENT,
    FEATURE_DRIFT,
    HISTORIES,
    PERFORMANCE,
    SCORE_DRIFT,
    SCORES,
    TEXTS,
)
from shop import PROJECT

from inference.registry.registry import VERSION_COLUMNS

AS_OF = date(2024, 3, 4)
#: Weeks that were scored.
N_DATES = 4


def contract(table: str) -> dict[str, str]:
    """Types by column, as the table's own description has them."""
    described = yaml.safe_load((PROJECT / "models" / "marts" / f"{table}.yml").read_text())
    return {column["name"]: column["data_type"] for column in described["models"][0]["columns"]}


def facts() -> str:
    """What ``online_shop`` says: the settings of a build with default vars."""
    settings = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
    row = {name: settings[f"churn__{name}"] for name in ("horizon_days", "history_days", "activity_days", "min_orders")}
    row |= {name: settings[f"churn__{name}"] for name in ("min_group", "pseudonymise", "complaint_from")}
    return json.dumps(
        row
        | {
            "as_of": str(AS_OF),
            "through": 0,
            "model_version": "1",
            "level_shift": 0.1,
            "percentiles": np.linspace(0, 1, 101).tolist(),
            "forecast": {"r": 1.5, "alpha": 30.0, "a": 1.0, "b": 4.0},
            "first_date": "2023-01-01",
            "encoder_revision": "r",
            "tables": ["orders", "events", "reviews", "support_tickets", "campaign_touches"],
            "event_types": ["view", "search", "cart_add", "cart_remove", "wishlist", "login"],
            "aspects": ["delivery", "quality", "price", "service", "returns"],
            "aspect_descriptions": [],
            "bands": [settings[f"churn__band_{band}"] for band in ("medium", "high", "critical")],
            "sequence_days": 180,
            "most_events": 32,
            "most_texts": 4,
        }
    )


def champion() -> pd.DataFrame:
    """One decision of ``churn_model``."""
    row = {
        "model_version": "1",
        "is_champion": True,
        "decided_at": pd.Timestamp(AS_OF),
        "as_of_date": pd.Timestamp(AS_OF),
        "decision": "promoted",
        "reason": "there was no champion",
        "trained_at": pd.Timestamp(AS_OF),
        "horizon_days": 30,
        "members": "logistic",
        "reads_words": False,
        "words_gain": 0.0002,
        "lexical_gain": 0.0001,
        "transformer_gain": None,
        "level_anchor": "model",
        "level_error": 0.02,
        "threshold": 0.5,
        "training_rows": 200_000,
        "training_customers": 90_000,
        "first_snapshot": pd.Timestamp(AS_OF - timedelta(200)),
        "last_snapshot": pd.Timestamp(AS_OF - timedelta(32)),
        "validation_auroc": 0.85,
        "validation_log_loss": 0.44,
        "validation_ece": 0.01,
        "run_id": "0",
    }
    return pd.DataFrame([row])[list(VERSION_COLUMNS)].astype(VERSION_COLUMNS)


def write(home: Path, customers: int) -> None:
    """Write every file that the desk reads of a build."""
    for folder in ("published", "features"):
        (home / folder).mkdir(parents=True)
    with duckdb.connect() as connection:
        for name, value in (("as_of", f"date '{AS_OF}'"), ("customers", customers), ("dates", N_DATES)):
            connection.execute(f"set variable {name} = {value}")
        connection.execute(f"create table scores as {SCORES}")
        tables = {
            "churn_scores": "select * from scores order by customer_id, as_of_date",
            "churn_model_performance": PERFORMANCE,
            "churn_score_drift": SCORE_DRIFT,
            "churn_feature_drift": FEATURE_DRIFT,
            "retention_actions": ACTIONS,
            "retention_experiment_results": EXPERIMENT,
            "online_histories": HISTORIES,
            "searchable_texts": TEXTS,
            "online_shop": f"select 'shop' as shop_id, getvariable('as_of') as as_of_date, '{facts()}' as facts",
        }
        for table, rows in tables.items():
            types = contract(table).items()
            cast = ", ".join(f"cast({name} as {data_type}) as {name}" for name, data_type in types)
            exported = table in ("online_histories", "searchable_texts", "online_shop")
            file = home / ("features" if exported else "published") / f"{table}.parquet"
            connection.execute(f"copy (select {cast} from ({rows})) to '{file}' (format parquet, compression zstd)")
    champion().to_parquet(home / "published" / "churn_model.parquet", index=False)
