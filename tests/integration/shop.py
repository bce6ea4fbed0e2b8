"""A shop in its own folder, built and served by the real commands."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import parsing

# tests compare builds exactly, and only float32 gives a text the same vector in every batch
os.environ.setdefault("CHURN_ENCODER_FIDELITY", "1")

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Shop:
    """One shop: its CHURN_HOME, raw tables and dbt target."""

    home: Path
    project: Path = PROJECT
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> Path:
        return self.home / "raw"

    @property
    def schema(self) -> str:
        """Where dbt builds this project's models."""
        return "main"

    @property
    def warehouse(self) -> Path:
        return self.home / "churn_radar.duckdb"

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "CHURN_HOME": str(self.home),
            "CHURN_RAW_DIR": str(self.raw),
            "DBT_TARGET_PATH": str(self.home / "target"),
            "DBT_LOG_PATH": str(self.home / "logs"),
            "DBT_USE_COLORS": "false",
            "CHURN_NOTIFY_URLS": "",
            **self.settings,
        }

    def write(self, **tables: pd.DataFrame) -> "Shop":
        self.raw.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_parquet(self.raw / f"{name}.parquet", index=False)
        return self

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        arguments = [str(BIN / command[0]), *command[1:]]
        with parsing.shared(self.home, self.project, self.env, command):
            done = subprocess.run(
                arguments, cwd=self.project, env=self.env, capture_output=True, text=True, check=False
            )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}")
        return done

    def dbt(self, *arguments: str, check: bool = True, **variables) -> subprocess.CompletedProcess:
        return self.run("dbt", *arguments, "--vars", json.dumps(variables), check=check)

    def table(self, name: str) -> pd.DataFrame:
        with duckdb.connect(self.warehouse, read_only=True) as connection:
            return connection.sql(f"select * from {name} order by all").df()

    @property
    def published(self) -> Path:
        return self.home / "published" / "churn_scores.parquet"

    def scores(self) -> pd.DataFrame:
        return pd.read_parquet(self.published).sort_values("customer_id", ignore_index=True)


def orders(rows: Iterable[tuple[str, str, float]]) -> pd.DataFrame:
    """Completed orders from (customer, day, amount)."""
    frame = pd.DataFrame(rows, columns=["customer_id", "ordered_at", "amount"])
    frame["ordered_at"] = pd.to_datetime(frame.ordered_at) + pd.Timedelta(hours=10)
    frame.insert(0, "order_id", [f"o{i}" for i in range(len(frame))])
    return frame


def small_shop_orders(n_customers: int = 120, days: int = 260, seed: int = 0) -> pd.DataFrame:
    """Customers who order about every one to five weeks; some stop for good."""
    rng = np.random.default_rng(seed)
    start = pd.Timestamp("2023-01-02")
    rows = []
    for i in range(n_customers):
        gap = rng.uniform(7, 35)
        stops_after = rng.uniform(60, 2 * days)
        day = rng.uniform(0, gap)
        while day < min(days, stops_after):
            rows.append((f"c{i}", start + pd.Timedelta(days=int(day)), round(rng.gamma(4, 10), 2)))
            day += rng.exponential(gap)
    return orders(rows)
