"""Churn probability, expected spend and reasons of customers at one as-of date."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.model.churn_model import ChurnModel
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Columns, Sequences, has_sequences, read_sequences
from inference.model.words import WORDS_LOGIT, embedding_matrix
from inference.registry.registry import RegisteredModel
from inference.scoring.quotes import quote_words
from inference.scoring.reasons import reasons

#: Risk bands, from the lowest probability to the highest.
BANDS = ("low", "medium", "high", "critical")
#: Arrays of sequences that enter the fingerprint of the features, one row per customer.
HASHED_ARRAYS = ("event_types", "event_numbers", "text_numbers")
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


def score_columns(
    current: RegisteredModel,
    rows: Columns,
    shift: float,
    manifest: str | None = None,
    member_logits: Mapping[str, np.ndarray] | None = None,
) -> dict[str, object]:
    """Score customers of one as-of date, from and to mappings: a DataFrame takes longer to build than one score.

    Parameters
    ----------
    current : RegisteredModel
        Model and version.
    rows : DataFrame or mapping
        ``customer_id``, ``as_of_date`` and features by name; numbers are arrays.
    shift : float
        Log-odds to add to the mean of the members.
    manifest : str, optional
        Fingerprint of the dbt project.
    member_logits : mapping of str to ndarray of shape (n_customers,), optional
        Log-odds of the members, where they were computed before.

    Returns
    -------
    dict
        Columns of ``SCHEMA``: expected spend in the shop's currency, ``level_shift`` in log-odds. Values that all
        customers share are scalars.

    Raises
    ------
    ChurnRadarError
        If the model lacks a feature, or texts were embedded by another encoder than the model's.
    """
    model = current.model
    X, sequences = model.inputs(rows)
    refuse_other_encoder(current, rows)
    if member_logits is None:
        member_logits = model.member_logits(X, sequences)
    logit = mean_logit(member_logits)
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
        "features_hash": _features_hash(X, sequences, embedding_matrix(rows) if model.words else None),
        "manifest_hash": manifest,
        "feature_snapshot_at": pd.Timestamp(next(iter(rows["as_of_date"]))),
        "scored_at": now(),
    }


def now() -> datetime:
    """Return the current time in UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def mean_logit(member_logits: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean log-odds of the members, shape (n_customers,)."""
    return np.mean(list(member_logits.values()), axis=0)


def refuse_other_encoder(current: RegisteredModel, rows: Columns) -> None:
    """Raise a ChurnRadarError if the model reads embeddings and the rows' texts were embedded by another encoder."""
    model = current.model
    used = {r for r in rows["encoder_revision"] if isinstance(r, str)} if model.reads_embeddings else set()
    if other := sorted(used - {model.encoder_revision}):
        raise ChurnRadarError(
            f"model {current.version} was trained on texts embedded by encoder {model.encoder_revision}, but "
            f"text_features were embedded by {other[0]}; expected one encoder: set CHURN_ENCODER and "
            "CHURN_ENCODER_FIDELITY back, or train again"
        )


def _features_hash(X: pd.DataFrame, sequences: Sequences | None, embeddings: np.ndarray | None) -> list[str]:
    """Fingerprint the inputs of a model for each customer.

    Parameters
    ----------
    X : DataFrame of shape (n_customers, n_features)
        Features, float64.
    sequences : Sequences or None
        Events and texts; None where the model does not read them.
    embeddings : ndarray of shape (n_customers, dimension) or None
        Pooled embeddings; None where the model does not read them.

    Returns
    -------
    list of str
        32 hexadecimal digits per customer, equal for equal inputs on any machine.
    """
    # the log-odds of the words are computed from the embeddings, and their last bits depend on the batch
    names = list(X.columns)
    kept = [position for position, name in enumerate(names) if name != WORDS_LOGIT]
    columns, numbers = ",".join(names[position] for position in kept).encode(), X.to_numpy(dtype="<f8")[:, kept]
    # one bit pattern for null, and no negative zero
    numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)
    parts = [np.ascontiguousarray(numbers)]
    if embeddings is not None:
        parts.append(np.ascontiguousarray(embeddings.astype("<f4")))
    if sequences is not None:
        parts += [np.ascontiguousarray(getattr(sequences, name)) for name in HASHED_ARRAYS]
    hashes = []
    for row in range(len(X)):
        digest = hashlib.blake2b(columns, digest_size=16)
        for part in parts:
            digest.update(part[row].tobytes())
        if sequences is not None:
            digest.update("\n".join(sequences.words[i] for i in sequences.texts[row] if i >= 0).encode())
        hashes.append(digest.hexdigest())
    return hashes


def _quoter(model: ChurnModel, rows: Columns, X: pd.DataFrame, logit: np.ndarray) -> Callable:
    def quote(positions: np.ndarray, direction: np.ndarray) -> list[str | None]:
        columns = {name: list(rows[name]) for name in (*EVENT_COLUMNS, *TEXT_COLUMNS, "as_of_date")}
        selected = {name: [values[i] for i in positions] for name, values in columns.items()}
        return quote_words(model, selected, X.iloc[positions], read_sequences(selected), direction, logit[positions])

    return quote
