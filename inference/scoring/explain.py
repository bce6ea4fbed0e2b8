"""Explanation of a stored score: its features, and the same score computed again from them."""

from dataclasses import dataclass
from datetime import date

import duckdb
import pandas as pd

from inference.errors import ChurnRadarError
from inference.feature_store import client
from inference.pseudonyms import pseudonym
from inference.registry import registry
from inference.scoring.score import score_columns
from inference.warehouse.manifest import Manifest
from inference.warehouse.reader import customer_tables


@dataclass(frozen=True)
class Explanation:
    """A stored score, and what the same model version returns for the same features now; rows of ``churn_predictions``.

    ``features`` are those that are known, by name; ``manifest_hash`` is the fingerprint of the current dbt project.
    """

    stored: pd.Series
    recomputed: pd.Series
    features: pd.Series
    manifest_hash: str | None


def explain(customer_id: str, as_of_date: date) -> Explanation:
    """Read a stored score and compute it again by the same model version, with the stored level shift.

    ``customer_id`` is the shop's own id, or its pseudonym.

    Raises
    ------
    ChurnRadarError
        If the customer has no score of that date, its features were deleted, or the version is not registered.
    """
    with customer_tables(customer_id) as connection:
        scores = connection.execute(
            "select * from churn_predictions where customer_id in (?, ?) and as_of_date = ? "
            "order by scored_at desc limit 1",
            [customer_id, pseudonym(customer_id), as_of_date],
        ).df()
        if scores.empty:
            raise ChurnRadarError(_no_score(connection, customer_id, as_of_date))
        features_kept = connection.execute(
            "select 1 from order_features where customer_id = ? and as_of_date = ?",
            [scores.customer_id.iloc[0], as_of_date],
        ).fetchall()
    if not features_kept:
        raise ChurnRadarError(
            f"order_features: the features of {as_of_date} are not kept any more, only the score; build them again by "
            f"dbt build --vars '{{churn__as_of_date: {as_of_date}, churn__train: never}}'"
        )
    stored = scores.iloc[0]
    key = ["customer_id", "as_of_date"]
    services = (client.MODEL_SERVICE, client.SEQUENCES_SERVICE)
    rows = client.historical_features(scores[key], *services)
    columns = score_columns(registry.load(stored.model_version), rows, float(stored.level_shift))
    features = rows.iloc[0].drop(key)
    known = features[[pd.api.types.is_scalar(value) and pd.notna(value) for value in features]]
    return Explanation(stored, pd.DataFrame(columns).iloc[0], known, Manifest.load().fingerprint)


def _no_score(connection: duckdb.DuckDBPyConnection, customer_id: str, as_of_date: date) -> str:
    dates = connection.execute(
        "select distinct as_of_date from churn_predictions where customer_id in (?, ?) order by 1 desc limit 5",
        [customer_id, pseudonym(customer_id)],
    ).fetchall()
    if not dates:
        return f"churn_scores: customer {customer_id} was never scored; expected one who was"
    scored = ", ".join(f"{day:%Y-%m-%d}" for (day,) in dates)
    return f"churn_scores: customer {customer_id} has no score as of {as_of_date}; the newest are of {scored}"
