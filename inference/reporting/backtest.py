"""Backtests: cut the raw data off at a date, build from that, compare with what happened after."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import yaml
from sklearn.linear_model import LogisticRegression

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import Evaluation, best_f1_threshold, evaluate
from inference.home import PROJECT_DIR, home, raw_dir
from inference.pseudonyms import ERASED_CUSTOMERS, PSEUDONYM, pseudonym, salt
from inference.warehouse import dbt

#: Rolling backtests go back in steps of this many days.
STEP_DAYS = 28


@dataclass(frozen=True)
class Backtest:
    """What was said at a date, and what recency alone would have said, against what happened.

    Parameters
    ----------
    as_of_date : date
        Cut-off.
    model, recency : Evaluation
        Figures of the churn probability.
    spend_error, naive_spend_error : float
        Mean absolute error of ``expected_spend`` for those who did order, in the shop's currency, and of
        taking their last 90 days' spend at the same pace.
    mean_spend : float
        What those who ordered spent, on average.
    promised_auroc : float or None
        AUROC that the champion had on the later snapshots that validated it; None where there were none.
    """

    as_of_date: date
    model: Evaluation
    recency: Evaluation
    spend_error: float
    naive_spend_error: float
    mean_spend: float
    promised_auroc: float | None

    @property
    def forward_drop(self) -> float | None:
        """By how much AUROC was lower than validation had promised."""
        return None if self.promised_auroc is None else self.promised_auroc - self.model.auroc


def backtest(as_of_date: date, variables: Mapping | None = None) -> Backtest:
    """Score a past date from the raw rows before it, and compare with the orders after it.

    The raw tables are cut off first and dbt builds from them in a folder of its own, so nothing that
    happened later can be used: neither by a feature, nor by the model, nor by its level.

    Parameters
    ----------
    as_of_date : date
        Cut-off.
    variables : mapping, optional
        dbt vars, such as ``churn__horizon_days``.

    Returns
    -------
    Backtest

    Raises
    ------
    ChurnRadarError
        If the horizon after the date was not observed, or there is too little history before it.
    """
    with tempfile.TemporaryDirectory(prefix="churn-radar-backtest-") as folder:
        state = Path(folder)
        truncate_raw(raw_dir(), state / "raw", as_of_date)
        if (erased := home() / ERASED_CUSTOMERS).exists():
            shutil.copy(erased, state)
        dbt.run(
            "build",
            "--exclude-resource-type=unit_test",
            variables={**(variables or {}), "churn__as_of_date": as_of_date.isoformat()},
            env=dbt.environment(state)
            | {"MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}", "CHURN_SALT": salt()},
            quiet=True,
        )
        with duckdb.connect(state / "churn_radar.duckdb", read_only=True) as connection:
            scores = connection.sql(
                "select customer_id, horizon_days, churn_probability, expected_spend, days_since_last_order, spend_90d "
                "from churn_scores join order_features using (customer_id, as_of_date) order by customer_id"
            ).df()
            history = connection.sql(
                "select churned, days_since_last_order "
                "from churn_labels join order_features using (customer_id, as_of_date) where churned is not null"
            ).df()
            threshold, promised = connection.sql(
                "select threshold, validation_auroc from churn_model where is_champion"
            ).fetchall()[0]
    horizon_days = int(scores.horizon_days.iloc[0])
    spent = spend_in_horizon(raw_dir() / "orders.parquet", as_of_date, horizon_days)
    if len(scores) and scores.customer_id.str.fullmatch(PSEUDONYM).all():
        spent.index = spent.index.map(pseudonym)
    churned = (~scores.customer_id.isin(spent.index)).to_numpy(dtype=int)
    recency, recency_threshold = _recency_alone(history, scores)
    stayed = scores[churned == 0]
    spend = stayed.customer_id.map(spent)
    return Backtest(
        as_of_date,
        evaluate(churned, scores.churn_probability.to_numpy(), threshold),
        evaluate(churned, recency, recency_threshold),
        spend_error=float((stayed.expected_spend - spend).abs().mean()),
        naive_spend_error=float((stayed.spend_90d * horizon_days / 90 - spend).abs().mean()),
        mean_spend=float(spend.mean()),
        promised_auroc=promised,
    )


def rolling_dates(newest: date, earlier: int) -> list[date]:
    """The cut-off and as many earlier ones, oldest first, four weeks apart."""
    return [newest - timedelta(days=STEP_DAYS * k) for k in range(earlier, -1, -1)]


def truncate_raw(source: Path, target: Path, before: date) -> None:
    """Copy raw tables as they were known at a date.

    Rows that happened or arrived later are left out; later moments of earlier rows (a ticket closed, a
    coupon redeemed) become null.

    Parameters
    ----------
    source, target : Path
        Folders of raw Parquet files.
    before : date
        Cut-off, exclusive.
    """
    if not (source / "orders.parquet").exists():
        raise ChurnRadarError(f"{source / 'orders.parquet'}: no such file; a backtest needs the raw orders there")
    target.mkdir(parents=True, exist_ok=True)
    cut = f"timestamp '{before.isoformat()}'"
    for name, contract in raw_contract().items():
        file = source / f"{name}.parquet"
        if not file.exists():
            continue
        relation = duckdb.read_parquet(str(file))
        present = set(relation.columns)
        happened = contract["config"]["meta"].get("event_time")
        moments = [c["name"] for c in contract["columns"] if c["data_type"] == "timestamp" and c["name"] in present]
        bounds = [c for c in moments if c in (happened, "loaded_at", "signed_up_at")]
        for bound in bounds:
            relation = relation.filter(f"{bound} is null or cast({bound} as timestamp) < {cut}")
        later = [c for c in moments if c not in bounds]
        if later:
            nulled = ", ".join(f"case when cast({c} as timestamp) < {cut} then {c} end as {c}" for c in later)
            relation = relation.project(f"* replace ({nulled})")
        relation.write_parquet(str(target / file.name), compression="zstd")


def raw_contract() -> dict[str, dict]:
    """Read the data contract, by table."""
    contract = yaml.safe_load((PROJECT_DIR / "models" / "staging" / "raw.yml").read_text())
    return {table["name"]: table for table in contract["sources"][0]["tables"]}


def spend_in_horizon(orders: Path, as_of_date: date, horizon_days: int) -> pd.Series:
    """Net amount of the completed orders in the horizon after a date, by customer; those without are left out.

    Raises
    ------
    ChurnRadarError
        If the orders end before the horizon does.
    """
    relation = duckdb.read_parquet(str(orders))
    status = "lower(trim(status))" if "status" in relation.columns else "null"
    completed = relation.filter(f"coalesce({status}, 'completed') = 'completed' and amount >= 0")
    ends = as_of_date + timedelta(days=horizon_days)
    last = completed.aggregate("cast(max(cast(ordered_at as timestamp)) as date)").fetchall()[0][0]
    if last + timedelta(days=1) < ends:
        raise ChurnRadarError(
            f"orders: the last order is of {last}; expected orders until {ends - timedelta(days=1)}, "
            f"{horizon_days} days after {as_of_date}"
        )
    ordered_at = "cast(ordered_at as timestamp)"
    inside = completed.filter(f"{ordered_at} >= timestamp '{as_of_date}' and {ordered_at} < timestamp '{ends}'")
    spent = inside.aggregate("cast(customer_id as varchar) as customer_id, sum(amount) as amount", "customer_id").df()
    return spent.set_index("customer_id").amount


def _recency_alone(history: pd.DataFrame, scores: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Churn probability from the days since the last order, learned from the same labelled rows."""

    def column(rows: pd.DataFrame) -> np.ndarray:
        return np.log1p(rows[["days_since_last_order"]].to_numpy(dtype=float))

    known = history.churned.to_numpy(dtype=int)
    regression = LogisticRegression().fit(column(history), known)
    threshold = best_f1_threshold(known, regression.predict_proba(column(history))[:, 1])
    return regression.predict_proba(column(scores))[:, 1], threshold
