"""Churn probability, expected spend and reasons of customers at one as-of date."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.model.churn_model import ChurnModel
from inference.model.level import anchored_shift, level_history
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Columns, has_sequences, read_sequences
from inference.model.words import embedding_matrix
from inference.registry.registry import RegisteredModel
from inference.scoring.lineage import features_hash
from inference.scoring.quotes import quote_words
from inference.scoring.reasons import reasons

#: Risk bands, from the lowest probability to the highest.
BANDS = ("low", "medium", "high", "critical")
#: Columns of the table churn_predictions, and their types.
SCHEMA = pa.schema(
    {
        "customer_id": pa.string(),
        "as_of_date": pa.timestamp("us"),
        "model_version": pa.string(),
        "horizon_days": pa.int64(),
        "churn_probability": pa.float64(),
        "expected_spend": pa.float64(),
        "level_shift": pa.float64(),
        **{f"{name}_probability": pa.float64() for name in ("transformer", "boosting", "logistic")},
        **{f"reason_{position}": pa.string() for position in (1, 2, 3)},
        "features_hash": pa.string(),
        "manifest_hash": pa.string(),
        "feature_snapshot_at": pa.timestamp("us"),
        "scored_at": pa.timestamp("us"),
    }
)


def score(
    current: RegisteredModel,
    rows: pd.DataFrame,
    labels: pd.DataFrame | None = None,
    shift: float | None = None,
    manifest: str | None = None,
) -> pd.DataFrame:
    """Score customers of one as-of date.

    Parameters
    ----------
    current : RegisteredModel
        Model and version.
    rows : DataFrame
        ``customer_id``, ``as_of_date`` and features.
    labels : DataFrame, optional
        ``churn_labels``: observed churn rates, from which some anchors set the level. With the columns
        ``days_since_first_order`` and ``days_since_last_order``, open label windows are estimated as well. Needed
        unless ``shift`` is given.
    shift : float, optional
        Log-odds to add to the mean of the members.
    manifest : str, optional
        Fingerprint of the dbt project, for the lineage.

    Returns
    -------
    DataFrame
        One row per customer, columns of ``SCHEMA``: probabilities, ``level_shift`` in log-odds, expected spend in
        the shop's currency, reasons and lineage.

    Raises
    ------
    ChurnRadarError
        If the model lacks a feature, or texts were embedded by another encoder than the model's.
    """
    return pd.DataFrame(score_columns(current, rows, labels, shift, manifest), index=rows.index)


def score_columns(
    current: RegisteredModel,
    rows: Columns,
    labels: pd.DataFrame | None = None,
    shift: float | None = None,
    manifest: str | None = None,
    member_logits: Mapping[str, np.ndarray] | None = None,
) -> dict[str, object]:
    """Score like ``score``, but from and to mappings: building a DataFrame takes longer than scoring one customer.

    Parameters
    ----------
    current, labels, shift, manifest
        As in ``score``.
    rows : DataFrame or mapping
        Columns by name; numbers are arrays.
    member_logits : mapping of str to ndarray of shape (n_customers,), optional
        Log-odds of the members, where they were computed before.

    Returns
    -------
    dict
        Columns of ``SCHEMA``; values that all customers share are scalars.
    """
    model = current.model
    X, sequences = model.inputs(rows)
    refuse_other_encoder(current, rows)
    if member_logits is None:
        member_logits = model.member_logits(X, sequences)
    logit = mean_logit(member_logits)
    as_of_date = pd.Timestamp(next(iter(rows["as_of_date"])))
    if shift is None:
        shift = level_shift_of(current, as_of_date, labels, logit, rows["no_order_probability"])
    # sentences also use numbers that the model does not read, such as complaints
    numbers = {name: rows[name] for name in rows if is_numeric_dtype(getattr(rows[name], "dtype", object))}
    sentences = reasons(
        numbers | dict(zip(X.columns, X.to_numpy().T, strict=True)),
        model.contributions(X, sequences),
        _quoter(model, rows, X, logit) if model.reads_words and has_sequences(rows) else None,
    )
    members = ("transformer", "boosting", "logistic")
    return {
        "customer_id": rows["customer_id"],
        "as_of_date": rows["as_of_date"],
        "model_version": current.version,
        "horizon_days": model.horizon_days,
        "churn_probability": expit(logit + shift),
        "expected_spend": model.spend.predict(X),
        "level_shift": shift,
        **{f"{m}_probability": expit(member_logits[m]) if m in member_logits else np.nan for m in members},
        **{
            f"reason_{position + 1}": np.array([s[position] if len(s) > position else None for s in sentences], object)
            for position in range(3)
        },
        "features_hash": features_hash(X, sequences, embedding_matrix(rows) if model.words else None),
        "manifest_hash": manifest,
        "feature_snapshot_at": as_of_date,
        "scored_at": now(),
    }


def now() -> datetime:
    """Return the current time in UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def mean_logit(member_logits: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean log-odds of the members, shape (n_customers,)."""
    return np.mean(list(member_logits.values()), axis=0)


def level_shift_of(
    current: RegisteredModel, as_of_date: object, labels: pd.DataFrame, logit: np.ndarray, forecast: pd.Series
) -> float:
    """Log-odds to add to the members' mean at a snapshot, by the model's anchor; see ``inference.model.level``."""
    history = level_history(labels, current.model.horizon_days)
    return anchored_shift(current.model.anchor, pd.Timestamp(as_of_date), history, logit, forecast)


def refuse_other_encoder(current: RegisteredModel, rows: Columns) -> None:
    """Raise a ChurnRadarError if the model reads words and the rows' texts were embedded by another encoder."""
    model = current.model
    used = {r for r in rows["encoder_revision"] if isinstance(r, str)} if model.reads_words else set()
    if other := sorted(used - {model.encoder_revision}):
        raise ChurnRadarError(
            f"model {current.version} was trained on texts embedded by encoder {model.encoder_revision}, but "
            f"text_features were embedded by {other[0]}; expected one encoder: set CHURN_ENCODER and "
            "CHURN_ENCODER_FIDELITY back, or train again"
        )


def _quoter(model: ChurnModel, rows: Columns, X: pd.DataFrame, logit: np.ndarray) -> Callable:
    def quote(positions: np.ndarray, direction: np.ndarray) -> list[str | None]:
        columns = {name: list(rows[name]) for name in (*EVENT_COLUMNS, *TEXT_COLUMNS, "as_of_date")}
        selected = {name: [values[i] for i in positions] for name, values in columns.items()}
        return quote_words(model, selected, X.iloc[positions], read_sequences(selected), direction, logit[positions])

    return quote
