"""One vector per customer and snapshot: the mean of recent text embeddings, weighted by recency."""

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

#: Texts older than this are not used.
WINDOW_DAYS = 60
#: Days of age by which the weight of a text halves.
HALF_LIFE_DAYS = 15
#: Rows per chunk: means are computed in float64, which would need much memory for all rows at once.
CHUNK_ROWS = 1024

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of_date", pa.date32()),
        ("texts_60d", pa.int64()),
        ("text_embedding", pa.list_(pa.float32())),
        ("encoder_revision", pa.string()),
    ]
)


def recent_texts_filter(snapshots: pd.DataFrame) -> str:
    """SQL condition on ``written_at`` that selects the texts in the window of any of the snapshots."""
    if snapshots.empty:
        return "false"
    return f"written_at >= timestamp '{pd.to_datetime(snapshots.as_of_date).min() - pd.Timedelta(days=WINDOW_DAYS)}'"


def pool_texts(snapshots: pd.DataFrame, texts: pd.DataFrame, embeddings: pa.Table) -> pa.Table:
    """Average the embeddings of each customer's recent texts that were known at each snapshot.

    Parameters
    ----------
    snapshots : DataFrame
        ``customer_id`` and ``as_of_date``.
    texts : DataFrame
        ``text_id``, ``customer_id``, ``written_at``, ``known_at`` and ``superseded_at``: a text is used once it is
        written and known, until a correction of it arrives.
    embeddings : pyarrow.Table
        ``text_id``, ``embedding`` and ``encoder_revision``, of one encoder.

    Returns
    -------
    pyarrow.Table
        One row of ``SCHEMA`` per customer and snapshot, without an embedding if there is no text.
    """
    positions = embeddings.select(["text_id"]).to_pandas().assign(vector=np.arange(len(embeddings)))
    # sorted by key, so that the last bits of a sum do not depend on texts that arrived later
    embedded = texts.merge(positions, on="text_id")
    embedded = embedded.sort_values("text_id", ignore_index=True).assign(text=np.arange(len(embedded)))
    rows = snapshots[["customer_id", "as_of_date"]].assign(as_of_date=pd.to_datetime(snapshots.as_of_date))
    rows = rows.sort_values(["as_of_date", "customer_id"], ignore_index=True).assign(row=np.arange(len(rows)))
    known = rows.merge(embedded[["customer_id", "written_at", "known_at", "superseded_at", "text"]], on="customer_id")
    age = (known.as_of_date - known.written_at).dt.total_seconds() / 86400
    is_valid = (known.known_at < known.as_of_date) & ~(known.superseded_at < known.as_of_date)
    known = known.assign(age=age)[(age > 0) & (age <= WINDOW_DAYS) & is_valid]
    counts = np.bincount(known.row, minlength=len(rows))
    vectors, revision = np.empty((0, 0), np.float32), ""
    if len(known):
        vectors = _weighted_means(known, embedded.vector.to_numpy(), embeddings["embedding"])
        revision = embeddings["encoder_revision"][0].as_py()
    ends = np.cumsum(np.where(counts > 0, vectors.shape[1], 0))
    return pa.Table.from_arrays(
        [
            pa.array(rows.customer_id, pa.string()),
            pa.array(rows.as_of_date.dt.date, pa.date32()),
            pa.array(counts, pa.int64()),
            pa.ListArray.from_arrays(
                pa.array(np.append(0, ends), pa.int32()), pa.array(vectors.ravel()), mask=pa.array(counts == 0)
            ),
            pa.array([revision if n_texts else None for n_texts in counts], pa.string()),
        ],
        schema=SCHEMA,
    )


def pooled_vector(vectors: np.ndarray, age_days: np.ndarray) -> np.ndarray:
    """Average the embeddings of one customer's texts as ``pool_texts`` does.

    Parameters
    ----------
    vectors : ndarray of shape (n_texts, dimension), float32
        Sorted by ``text_id``.
    age_days : ndarray of shape (n_texts,)
        0 to ``WINDOW_DAYS``.
    """
    weights = 0.5 ** (age_days / HALF_LIFE_DAYS)
    return (weights @ vectors.astype(np.float64) / weights.sum()).astype(np.float32)


def _weighted_means(known: pd.DataFrame, vector: np.ndarray, embeddings: pa.ChunkedArray) -> np.ndarray:
    """Mean embedding of each row with a text, weighted by age; ``vector`` is the position of each text's embedding."""
    number = pd.factorize(known.row, sort=True)[0]
    weights = 0.5 ** (known.age.to_numpy() / HALF_LIFE_DAYS)
    weighting, total = csr_matrix((weights, (number, known.text))), np.bincount(number, weights)[:, None]
    # chunk by chunk, because one Arrow list array holds at most two billion numbers
    stored = np.concatenate([chunk.flatten().to_numpy() for chunk in embeddings.chunks]).reshape(len(embeddings), -1)
    result = np.empty((len(total), stored.shape[1]), np.float32)
    for start in range(0, len(result), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        weighted = weighting[rows]
        read, text = np.unique(weighted.indices, return_inverse=True)
        weighted = csr_matrix((weighted.data, text, weighted.indptr), (weighted.shape[0], len(read)))
        result[rows] = weighted @ stored[vector[read]].astype(np.float64) / total[rows]
    return result
