"""A score of one customer at any midnight, by the model of the last build, from rows of that customer alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import expit

from inference.features.mbg_nbd import MBGNBD
from inference.features.packing import EMBEDDING, pack
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Columns
from inference.realtime.features import (
    SequenceShape,
    ShopFacts,
    campaign_features,
    engagement_features,
    order_features,
    review_features,
    sequence_features,
    support_features,
)
from inference.realtime.history import CustomerRows
from inference.registry.registry import RegisteredModel
from inference.scoring.score import BANDS, score_columns
from inference.text.pooling import WINDOW_DAYS, pooled_vector

#: What a stored score tells, see ``online_scores``; a fresh one tells ``as_of`` and ``through`` besides.
TOLD = ("churn_probability", "expected_spend", "horizon_days", "reason_1", "reason_2", "reason_3", "model_version")

#: Features that are no numbers.
OTHERS = (*EVENT_COLUMNS, *TEXT_COLUMNS, "attributes", "text_embedding", "encoder_revision")


@dataclass(frozen=True)
class OnlineShop:
    """What ``online_shop`` says of the shop as a whole.

    Parameters
    ----------
    as_of : date
        The newest snapshot.
    model_version : str
        The champion that scored it.
    level_shift : float
        Log-odds that were added to what its members said.
    forecast : MBGNBD
        The purchase model that was fitted at the snapshot.
    facts : ShopFacts
        What features need to know.
    shape : SequenceShape
        How far back sequences go.
    percentiles : ndarray of shape (101,)
        Of the churn probabilities of that snapshot.
    bands : tuple of float
        Lowest probability of each band but the lowest.
    activity_days, min_orders : int
        Who is a customer: the dbt vars of these names.
    encoder_revision : str or None
        What texts were read by.
    aspects : DataFrame
        The seed ``aspect_descriptions``.
    pseudonymise : bool
        Whether customers go by pseudonyms.
    through : int
        Position in the log of the newest event that the last build read.
    """

    as_of: date
    model_version: str
    level_shift: float
    forecast: MBGNBD
    facts: ShopFacts
    shape: SequenceShape
    percentiles: np.ndarray
    bands: tuple[float, ...]
    activity_days: int
    min_orders: int
    encoder_revision: str | None
    aspects: pd.DataFrame
    pseudonymise: bool
    through: int

    @classmethod
    def unpack(cls, facts: str) -> Self:
        """Read the row of ``online_shop``."""
        told = json.loads(facts)
        return cls(
            as_of=date.fromisoformat(told["as_of"]),
            model_version=told["model_version"],
            level_shift=told["level_shift"],
            forecast=MBGNBD(**told["forecast"]),
            facts=ShopFacts(
                horizon_days=told["horizon_days"],
                history_days=told["history_days"],
                complaint_from=told["complaint_from"],
                tables=frozenset(told["tables"]),
                first_date=date.fromisoformat(told["first_date"]),
                event_types=tuple(told["event_types"]),
                aspects=tuple(told["aspects"]),
            ),
            shape=SequenceShape(told["sequence_days"], told["most_events"], told["most_texts"]),
            percentiles=np.array(told["percentiles"]),
            bands=tuple(told["bands"]),
            activity_days=told["activity_days"],
            min_orders=told["min_orders"],
            encoder_revision=told["encoder_revision"],
            aspects=pd.DataFrame(told["aspect_descriptions"]),
            pseudonymise=told["pseudonymise"],
            through=told["through"],
        )

    def is_customer(self, rows: CustomerRows, as_of: date) -> bool:
        """Whether somebody is scored at a midnight, by the rule of ``int_customer_snapshots``."""
        _, last, _, orders = rows.order_dates(as_of)
        return orders >= self.min_orders and last is not None and last >= as_of - timedelta(days=self.activity_days)


def as_of_now(rows: CustomerRows, now: datetime) -> date:
    """Return the midnight whose score is told: the last one, or the next where something has happened since.

    What a build of the next day says of that midnight is the same score.

    Parameters
    ----------
    rows : CustomerRows
        What happened.
    now : datetime
        Naive UTC.
    """
    newest = rows.newest()
    return max(now.date(), newest.date() + timedelta(days=1)) if newest else now.date()


def features_at(rows: CustomerRows, as_of: date, shop: OnlineShop) -> dict:
    """Compute every feature that the model's services serve.

    Parameters
    ----------
    rows : CustomerRows
        Of somebody who is a customer at the midnight.
    as_of : date
        Midnight (UTC), exclusive.
    shop : OnlineShop
        Settings and the purchase model.

    Returns
    -------
    dict
        Numbers by name, None where unknown; lists of ``sequence_features``; ``attributes`` and ``text_embedding``.
    """
    history = rows.at(as_of, shop.facts)
    told: dict = {}
    for features in (order_features, engagement_features, review_features, support_features, campaign_features):
        told |= features(history, as_of, shop.facts)
    return (
        told
        | _forecast(rows, as_of, shop)
        | _text(rows, history.texts, as_of, shop)
        | sequence_features(history, as_of, shop.shape)
        | {"attributes": rows.attributes}
    )


def rescore(current: RegisteredModel, features: dict, as_of: date, shop: OnlineShop, customer_id: str) -> dict:
    """Score a customer as the batch would.

    Parameters
    ----------
    current : RegisteredModel
        The model of ``shop.model_version``.
    features : dict
        As ``features_at`` computes them.
    as_of : date
        Midnight (UTC) of the features.
    shop : OnlineShop
        Settings and level.
    customer_id : str
        Whose features they are.

    Returns
    -------
    dict
        As ``online_scores`` packs it, with ``as_of`` and ``scored_at`` besides.
    """
    scored = score_columns(current, _columns(features, customer_id, as_of), shift=shop.level_shift)
    told = {name: _plain(scored[name]) for name in TOLD}
    probability = told["churn_probability"]
    below = np.searchsorted(shop.percentiles, probability)
    return told | {
        "risk_band": BANDS[int(np.searchsorted(shop.bands, probability, side="right"))],
        "risk_percentile": min(float(below) / 100, 1.0),
        "value_at_risk": probability * told["expected_spend"],
        "as_of": f"{as_of}T00:00:00+00:00",
        "scored_at": datetime.now(UTC).isoformat(),
    }


def packed(features: dict, columns: Sequence[str], as_of: date) -> bytes:
    """Pack features as ``model_features`` has them.

    Parameters
    ----------
    features : dict
        As ``features_at`` computes them.
    columns : sequence of str
        Names of the numbers that the model reads, in its order.
    as_of : date
        Midnight (UTC) of the features.
    """
    numbers = np.array([[np.nan if features[name] is None else features[name] for name in columns]], dtype=float)
    day = np.array([as_of], dtype="datetime64[D]").astype("int64")
    return pack(numbers, columns, day, [features[EMBEDDING]], [features])[0]


def _columns(features: dict, customer_id: str, as_of: date) -> Columns:
    """Return columns of one element, those of numbers as arrays."""
    names = [name for name in features if name not in OTHERS]
    numbers = np.array([features[name] for name in names], dtype=float)
    return (
        dict(zip(names, numbers[:, None], strict=True))
        | {name: [features[name]] for name in OTHERS}
        | {"customer_id": [customer_id], "as_of_date": [pd.Timestamp(as_of)]}
    )


def _forecast(rows: CustomerRows, as_of: date, shop: OnlineShop) -> dict[str, float]:
    first, last, days, _ = rows.order_dates(as_of)
    summary = tuple(np.array([n]) for n in (days - 1, (last - first).days, (as_of - first).days))
    silent = float(shop.forecast.no_order_probability(*summary, shop.facts.horizon_days)[0])
    alive_logit = float(shop.forecast.alive_logit(*summary)[0])
    bounded = min(max(silent, 1e-6), 1 - 1e-6)
    return {
        "no_order_probability": silent,
        "alive_probability": float(expit(alive_logit)),
        "no_order_logit": float(np.log(bounded / (1 - bounded))),
        "alive_logit": alive_logit,
        "expected_orders": float(shop.forecast.expected_orders(*summary, shop.facts.horizon_days)[0]),
    }


def _text(rows: CustomerRows, texts: list[dict], as_of: date, shop: OnlineShop) -> dict:
    midnight = datetime(as_of.year, as_of.month, as_of.day)
    moments = {row["text_id"]: (row["reviewed_at"], row["known_at"]) for row in rows.reviews.values()}
    moments |= {row["text_id"]: (row["opened_at"], row["opened_at"]) for row in rows.tickets.values()}
    ages = {}
    for text_id in sorted(rows.vectors):
        if text_id not in moments:  # a correction took its place
            continue
        written, known = moments[text_id]
        age = (midnight - written).total_seconds() / 86400
        if 0 < age <= WINDOW_DAYS and known < midnight:
            ages[text_id] = age
    vectors = [rows.vectors[text_id] for text_id in ages]
    return {
        "texts_60d": float(len(ages)),
        "text_embedding": pooled_vector(np.vstack(vectors), np.array(list(ages.values()))) if ages else None,
        "encoder_revision": shop.encoder_revision if ages else None,
    }


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.ndarray) else value
