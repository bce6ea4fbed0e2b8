"""Features and score of one customer at any midnight, by the model of the last build."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from inference.features.packing import EMBEDDING, pack
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Columns
from inference.realtime.features import (
    at_midnight,
    campaign_features,
    engagement_features,
    order_features,
    review_features,
    support_features,
)
from inference.realtime.history import CustomerRows
from inference.realtime.sequences import sequence_features
from inference.realtime.shop import OnlineShop
from inference.registry.registry import RegisteredModel
from inference.scoring.score import BANDS, score_columns
from inference.text.pooling import WINDOW_DAYS, pooled_vector

#: Fields of a score that the model fills in; ``online_scores`` holds them and those of ``score_customer``.
MODEL_FIELDS = (
    "churn_probability",
    "expected_spend",
    "horizon_days",
    "reason_1",
    "reason_2",
    "reason_3",
    "model_version",
)
#: Features that are not numbers.
NOT_NUMBERS = (*EVENT_COLUMNS, *TEXT_COLUMNS, "attributes", EMBEDDING, "encoder_revision")


def current_as_of(rows: CustomerRows, now: datetime) -> date:
    """Return the as-of date of a customer's current score: today, or tomorrow if something happened today.

    A build of tomorrow computes the same score for that date. ``now`` is naive UTC.
    """
    newest = rows.newest()
    return max(now.date(), newest.date() + timedelta(days=1)) if newest else now.date()


def features_at(rows: CustomerRows, as_of: date, shop: OnlineShop) -> dict[str, Any]:
    """Compute every feature of the model's services for a customer at a midnight.

    Numbers (None: unknown), lists of events and texts, ``text_embedding`` (a vector), ``encoder_revision`` (text) and
    ``attributes`` (a mapping).
    """
    history = rows.at(as_of, shop.facts)
    features: dict[str, Any] = {}
    for subject in (order_features, engagement_features, review_features, support_features, campaign_features):
        features |= subject(history, as_of, shop.facts)
    return (
        features
        | _purchase_forecast(rows, as_of, shop)
        | _text_features(rows, as_of, shop)
        | sequence_features(history, as_of, shop.shape)
        | {"attributes": rows.attributes}
    )


def score_customer(
    model: RegisteredModel, features: Mapping[str, Any], as_of: date, shop: OnlineShop, customer_id: str
) -> dict[str, Any]:
    """Score the result of ``features_at`` as the batch does.

    Returns
    -------
    dict
        The fields of ``online_scores``, and ``as_of`` and ``scored_at`` as ISO 8601.
    """
    columns = score_columns(model, _columns(features, customer_id, as_of), shift=shop.level_shift)
    score = {name: np.asarray(columns[name]).item() for name in MODEL_FIELDS}
    probability = score["churn_probability"]
    n_below = float(np.searchsorted(shop.percentiles, probability))
    return score | {
        "risk_band": BANDS[int(np.searchsorted(np.array(shop.bands), probability, side="right"))],
        "risk_percentile": min(n_below / 100, 1.0),
        "value_at_risk": probability * score["expected_spend"],
        "as_of": f"{as_of}T00:00:00+00:00",
        "scored_at": datetime.now(UTC).isoformat(),
    }


def pack_features(features: Mapping[str, Any], columns: Sequence[str], as_of: date) -> bytes:
    """Pack the result of ``features_at``, of which the model reads some columns in its order, as ``model_features``."""
    numbers = np.array([[np.nan if features[name] is None else features[name] for name in columns]], dtype=float)
    day = np.array([as_of], dtype="datetime64[D]").astype("int64")
    return pack(numbers, columns, day, [features[EMBEDDING]], [features])[0]


def _columns(features: Mapping[str, Any], customer_id: str, as_of: date) -> Columns:
    """Return the features as columns of one row; numbers as arrays."""
    names = [name for name in features if name not in NOT_NUMBERS]
    numbers = np.array([features[name] for name in names], dtype=float)
    return (
        dict(zip(names, numbers[:, None], strict=True))
        | {name: [features[name]] for name in NOT_NUMBERS}
        | {"customer_id": [customer_id], "as_of_date": [pd.Timestamp(as_of)]}
    )


def _purchase_forecast(rows: CustomerRows, as_of: date, shop: OnlineShop) -> dict[str, float]:
    """Compute ``purchase_forecasts`` of somebody who has ordered."""
    first, last, days, _ = rows.order_dates(as_of)
    if first is None or last is None:
        raise ValueError(f"no completed order before {as_of}; expected a customer")
    repeats, recency, age = (np.array([n]) for n in (days - 1, (last - first).days, (as_of - first).days))
    horizon = shop.facts.horizon_days
    no_order = float(shop.forecast.no_order_probability(repeats, recency, age, horizon)[0])
    alive_logit = float(shop.forecast.alive_logit(repeats, recency, age)[0])
    bounded = min(max(no_order, 1e-6), 1 - 1e-6)
    return {
        "no_order_probability": no_order,
        "alive_probability": float(expit(alive_logit)),
        "no_order_logit": float(np.log(bounded / (1 - bounded))),
        "alive_logit": alive_logit,
        "expected_orders": float(shop.forecast.expected_orders(repeats, recency, age, horizon)[0]),
    }


def _text_features(rows: CustomerRows, as_of: date, shop: OnlineShop) -> dict[str, Any]:
    """Compute ``text_features``: the mean embedding of the texts of the last ``WINDOW_DAYS`` days."""
    midnight = at_midnight(as_of)
    moments = {row["text_id"]: (row["reviewed_at"], row["known_at"]) for row in rows.reviews.values()}
    moments |= {row["text_id"]: (row["opened_at"], row["opened_at"]) for row in rows.tickets.values()}
    ages = {}
    for text_id in sorted(rows.vectors.keys() & moments.keys()):  # a corrected text has lost its row
        written_at, known_at = moments[text_id]
        age = (midnight - written_at).total_seconds() / 86400
        if 0 < age <= WINDOW_DAYS and known_at < midnight:
            ages[text_id] = age
    vectors = [rows.vectors[text_id] for text_id in ages]
    return {
        "texts_60d": float(len(ages)),
        EMBEDDING: pooled_vector(np.vstack(vectors), np.array(list(ages.values()))) if ages else None,
        "encoder_revision": shop.encoder_revision if ages else None,
    }
