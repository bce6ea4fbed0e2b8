"""Backtests: truncate the raw tables at a date, build from them, compare with what happened afterwards."""

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
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import Evaluation, best_f1_threshold, evaluate
from inference.home import PROJECT_DIR, home, raw_dir
from inference.pseudonyms import ERASED_CUSTOMERS, PSEUDONYM, pseudonym, salt
from inference.warehouse import dbt

#: Days between the cut-offs of rolling backtests.
STEP_DAYS = 28
#: What recency alone predicts from.
SILENCE = ["days_since_last_order"]


@dataclass(frozen=True)
class Backtest:
    """Metrics of the scores of a past date, and of recency alone, against what happened afterwards."""

    #: Cut-off.
    as_of_date: date
    #: Metrics of the model, and of a logistic regression on the days since the last order.
    model: Evaluation
    recency: Evaluation
    #: Mean absolute error of ``expected_spend`` and of the spend of the last 90 days scaled to the horizon, among
    #: customers who ordered, in the shop's currency; and the mean of what they spent.
    spend_error: float
    naive_spend_error: float
    mean_spend: float
    #: AUROC of the champion on its validation snapshots; None without any.
    promised_auroc: float | None


def backtest(as_of_date: date, variables: Mapping | None = None) -> Backtest:
    """Score a past date from the raw rows before it, and compare with the orders after it.

    Raw tables are truncated first and dbt builds from them in a temporary home, so that neither features nor the
    model nor its level can use later rows.

    ``variables`` are dbt vars, such as ``churn__horizon_days``.

    Raises
    ------
    ChurnRadarError
        If the horizon after the date is not observed, or there is too little history before it.
    """
    with tempfile.TemporaryDirectory(prefix="churn-radar-backtest-") as folder:
        scores, history, (threshold, promised_auroc) = _build(Path(folder), as_of_date, variables or {})
    horizon_days = int(scores.horizon_days.iloc[0])
    spent = spend_in_horizon(raw_dir() / "orders.parquet", as_of_date, horizon_days)
    if len(scores) and scores.customer_id.str.fullmatch(PSEUDONYM).all():
        spent.index = spent.index.map(pseudonym)
    churned = (~scores.customer_id.isin(spent.index)).to_numpy(dtype=int)
    y = history.churned.to_numpy(dtype=int)
    by_recency = recency_regression().fit(history[SILENCE], y)
    recency_threshold = best_f1_threshold(y, by_recency.predict_proba(history[SILENCE])[:, 1])
    stayed = scores[churned == 0]
    spend = stayed.customer_id.map(spent)
    return Backtest(
        as_of_date,
        evaluate(churned, scores.churn_probability.to_numpy(), threshold),
        evaluate(churned, by_recency.predict_proba(scores[SILENCE])[:, 1], recency_threshold),
        spend_error=float((stayed.expected_spend - spend).abs().mean()),
        naive_spend_error=float((stayed.spend_90d * horizon_days / 90 - spend).abs().mean()),
        mean_spend=float(spend.mean()),
        promised_auroc=promised_auroc,
    )


def recency_regression() -> Pipeline:
    """Logistic regression of churn on the days since the last order (``SILENCE``), not fitted."""
    return make_pipeline(FunctionTransformer(np.log1p), LogisticRegression())


def _build(folder: Path, as_of_date: date, variables: Mapping) -> tuple[pd.DataFrame, pd.DataFrame, tuple]:
    """Run dbt in a folder on the raw rows before a date.

    Returns scores with features, the labelled history, and the champion's threshold and AUROC in validation.
    """
    truncate_raw(raw_dir(), folder / "raw", as_of_date)
    if (erased := home() / ERASED_CUSTOMERS).exists():
        shutil.copy(erased, folder)
    dbt.run(
        "build",
        "--selector=backtest",
        "--exclude-resource-type=unit_test",
        variables={**variables, "churn__as_of_date": as_of_date.isoformat()},
        env=dbt.environment(folder)
        | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "CHURN_SALT": salt()},
        quiet=True,
    )
    with duckdb.connect(folder / "churn_radar.duckdb", read_only=True) as connection:
        scores = connection.sql(
            "select customer_id, horizon_days, churn_probability, expected_spend, days_since_last_order, spend_90d "
            "from churn_scores join order_features using (customer_id, as_of_date) order by customer_id"
        ).df()
        history = connection.sql(
            "select churned, days_since_last_order "
            "from churn_labels join order_features using (customer_id, as_of_date) where churned is not null"
        ).df()
        champion = connection.sql("select threshold, validation_auroc from churn_model where is_champion").fetchall()[0]
    return scores, history, champion


def rolling_dates(newest: date, earlier: int) -> list[date]:
    """The newest cut-off and a number of earlier ones, ``STEP_DAYS`` apart, oldest first."""
    return [newest - timedelta(days=STEP_DAYS * k) for k in range(earlier, -1, -1)]


def truncate_raw(source: Path, target: Path, before: date) -> None:
    """Copy raw tables as they were known at a date.

    Rows that happened or were loaded later are dropped; later timestamps of earlier rows (a ticket closed, a coupon
    redeemed) become null.

    ``source`` and ``target`` are folders of Parquet files; the date is exclusive.

    Raises
    ------
    ChurnRadarError
        If there are no raw orders.
    """
    if not (source / "orders.parquet").exists():
        raise ChurnRadarError(f"{source / 'orders.parquet'}: no such file; a backtest needs the raw orders there")
    target.mkdir(parents=True, exist_ok=True)
    cut = f"timestamp '{before.isoformat()}'"
    described = yaml.safe_load((PROJECT_DIR / "models" / "staging" / "raw.yml").read_text())
    for contract in described["sources"][0]["tables"]:
        file = source / f"{contract['name']}.parquet"
        if not file.exists():
            continue
        relation = duckdb.read_parquet(str(file))
        present = set(relation.columns)
        event_time = contract["config"]["meta"].get("event_time")
        timestamps = [c["name"] for c in contract["columns"] if c["data_type"] == "timestamp" and c["name"] in present]
        bounds = [c for c in timestamps if c in (event_time, "loaded_at", "signed_up_at")]
        for bound in bounds:
            relation = relation.filter(f"{bound} is null or cast({bound} as timestamp) < {cut}")
        later = [c for c in timestamps if c not in bounds]
        if later:
            nulled = ", ".join(f"case when cast({c} as timestamp) < {cut} then {c} end as {c}" for c in later)
            relation = relation.project(f"* replace ({nulled})")
        relation.write_parquet(str(target / file.name), compression="zstd")


def spend_in_horizon(orders: Path, as_of_date: date, horizon_days: int) -> pd.Series:
    """Net amount of the completed orders in the horizon after a date, for each customer with any.

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
