"""One vector per customer and snapshot: what they wrote lately, the newest weighing most."""

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

#: Texts older than this say nothing about the next weeks.
WINDOW_DAYS = 60
#: A text weighs half of one that is this much newer.
HALF_LIFE_DAYS = 15

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of_date", pa.date32()),
        ("texts_60d", pa.int64()),
        ("text_embedding", pa.list_(pa.float32())),
        ("encoder_revision", pa.string()),
    ]
)


def pool_texts(snapshots: pd.DataFrame, texts: pd.DataFrame, embeddings: pd.DataFrame) -> pa.Table:
    """Average the embeddings of each customer's recent texts, as known at each snapshot.

    Parameters
    ----------
    snapshots : DataFrame
        ``customer_id`` and ``as_of_date``.
    texts : DataFrame
        ``text_id``, ``customer_id``, ``written_at`` and ``known_at``; a text counts from both on.
    embeddings : DataFrame
        ``text_id``, ``embedding`` and ``encoder_revision``, of one encoder.

    Returns
    -------
    pyarrow.Table
        One row of ``SCHEMA`` per customer and snapshot with a text; the others have none.
    """
    embedded = texts.merge(embeddings[["text_id", "embedding", "encoder_revision"]], on="text_id")
    embedded["text"] = np.arange(len(embedded))
    rows = snapshots[["customer_id", "as_of_date"]].assign(as_of_date=pd.to_datetime(snapshots.as_of_date))
    known = rows.merge(embedded[["customer_id", "written_at", "known_at", "text"]], on="customer_id")
    age = (known.as_of_date - known.written_at).dt.total_seconds() / 86400
    known = known.assign(age=age)[(age > 0) & (age <= WINDOW_DAYS) & (known.known_at < known.as_of_date)]
    if known.empty:
        return SCHEMA.empty_table()
    known = known.sort_values(["as_of_date", "customer_id", "text"], ignore_index=True)
    groups = known.groupby(["as_of_date", "customer_id"], sort=False)
    number, weights = groups.ngroup().to_numpy(), 0.5 ** (known.age.to_numpy() / HALF_LIFE_DAYS)
    pooled = groups.size().rename("texts").reset_index()
    matrix = np.vstack(embedded.embedding.to_list()).astype(np.float64)
    sums = csr_matrix((weights, (number, known.text.to_numpy())), (len(pooled), len(embedded))) @ matrix
    means = (sums / np.bincount(number, weights)[:, None]).astype(np.float32)
    offsets = pa.array(np.arange(0, means.size + 1, means.shape[1], dtype=np.int32))
    return pa.Table.from_arrays(
        [
            pa.array(pooled.customer_id, pa.string()),
            pa.array(pooled.as_of_date.dt.date, pa.date32()),
            pa.array(pooled.texts, pa.int64()),
            pa.ListArray.from_arrays(offsets, pa.array(means.ravel())),
            pa.array([embedded.encoder_revision.iloc[0]] * len(pooled), pa.string()),
        ],
        schema=SCHEMA,
    )
