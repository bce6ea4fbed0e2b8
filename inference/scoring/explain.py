"""One score, explained and computed once more from what it came from."""

from dataclasses import dataclass
from datetime import date

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.feature_store import client as feature_store
from inference.pseudonyms import pseudonym
from inference.registry import registry
from inference.scoring.score import score
from inference.warehouse.manifest import Manifest
from inference.warehouse.reader import customer_tables


@dataclass(frozen=True)
class Explanation:
    """What was said of a customer, and what the same model says of the same features now.

    Parameters
    ----------
    stored, recomputed : Series
        Rows of ``churn_predictions``.
    features : Series
        Features by name, null ones left out.
    manifest_hash : str or None
        Of the dbt project as it is now; None where there is no manifest.
    """

    stored: pd.Series
    recomputed: pd.Series
    features: pd.Series
    manifest_hash: str | None


def explain(customer_id: str, as_of_date: date) -> Explanation:
    """Read a stored score and compute it again by the version that gave it, at the level that it was given.

    Parameters
    ----------
    customer_id : str
        The shop's own id, or the pseudonym that stands for it.
    as_of_date : date
        A date that was scored.

    Returns
    -------
    Explanation

    Raises
    ------
    ChurnRadarError
        If the customer has no score of that date, its features are not kept any more, or the version is gone.
    """
    with customer_tables(customer_id) as connection:
        found = connection.execute(
            "select * from churn_predictions where customer_id in (?, ?) and as_of_date = ? "
            "order by scored_at desc limit 1",
            [customer_id, pseudonym(customer_id), as_of_date],
        ).df()
        if found.empty:
            raise ChurnRadarError(_no_score(connection, customer_id, as_of_date))
        there = connection.execute(
            "select 1 from order_features where customer_id = ? and as_of_date = ?",
            [found.customer_id.iloc[0], as_of_date],
        ).fetchall()
    if not there:
        raise ChurnRadarError(
            f"order_features: the features of {as_of_date} are not kept any more, only the score; build them again by "
            f"dbt build --vars '{{churn__as_of_date: {as_of_date}, churn__train: never}}'"
        )
    stored = found.iloc[0]
    current = registry.load(stored.model_version)
    asked = found[["customer_id", "as_of_date"]]
    services = (feature_store.MODEL_SERVICE, feature_store.SEQUENCES_SERVICE)
    rows = feature_store.historical_features(asked, *services)
    recomputed = score(current, rows, shift=float(stored.level_shift)).iloc[0]
    features = rows.iloc[0].drop(["customer_id", "as_of_date"])
    known = features[[pd.api.types.is_scalar(value) and pd.notna(value) for value in features]]
    return Explanation(stored, recomputed, known, Manifest.load().fingerprint)


def _no_score(connection: duckdb.DuckDBPyConnection, customer_id: str, as_of_date: date) -> str:
    dates = connection.execute(
        "select distinct as_of_date from churn_predictions where customer_id in (?, ?) order by 1 desc limit 5",
        [customer_id, pseudonym(customer_id)],
    ).fetchall()
    if not dates:
        return f"churn_scores: customer {customer_id} was never scored; expected a customer who was"
    scored = ", ".join(f"{day:%Y-%m-%d}" for (day,) in dates)
    return f"churn_scores: customer {customer_id} has no score as of {as_of_date}; the newest are of {scored}"
