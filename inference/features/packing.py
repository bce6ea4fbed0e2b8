"""All features of a customer packed into one binary value, because Feast reads many fields and lists slowly.

A packed row holds, little-endian: ``time_features.STORED`` and the other numbers as float64, NaN where unknown; the
length of the text embedding as uint32; the embedding as float32; and a JSON object of the other columns.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.features.time_features import TIME_FEATURES, month_of

#: Tables whose numeric columns are packed, in this order.
TABLES = (
    "campaign_features",
    "engagement_features",
    "forecast_features",
    "order_features",
    "review_features",
    "support_features",
    "text_features",
)
#: Columns that are not numeric.
EMBEDDING, OTHERS = "text_embedding", ("attributes", "encoder_revision")
KEY = ["customer_id", "as_of_date"]

SCHEMA = pa.schema([("customer_id", pa.string()), ("as_of_date", pa.date32()), ("packed", pa.binary())])


def pack_tables(snapshots: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pa.Table:
    """Pack the features of snapshots (``customer_id``, ``as_of_date``) into a row of ``SCHEMA`` each.

    ``tables`` are those snapshots' ``TABLES`` and ``customer_features`` by name.
    """
    rows = snapshots[KEY].assign(as_of_date=pd.to_datetime(snapshots.as_of_date))
    for table in tables.values():
        rows = rows.merge(
            table.assign(as_of_date=pd.to_datetime(table.as_of_date)), on=KEY, how="left", validate="one_to_one"
        )
    names = [name for table in TABLES for name in tables[table].select_dtypes("number")]
    days = rows.as_of_date.to_numpy().astype("datetime64[D]").astype("int64")
    others = rows[list(OTHERS)].astype(object)
    others = others.where(others.notna(), None).to_dict("records")
    packed = pack(rows[names].to_numpy("float64", na_value=np.nan), names, days, rows[EMBEDDING], others)
    return pa.Table.from_arrays(
        [
            pa.array(rows.customer_id, pa.string()),
            pa.array(rows.as_of_date.dt.date, pa.date32()),
            pa.array(packed, pa.binary()),
        ],
        schema=SCHEMA,
    )


def pack(
    numbers: np.ndarray, names: Sequence[str], as_of_day: np.ndarray, vectors: Sequence, others: Sequence[Mapping]
) -> list[bytes]:
    """Pack features.

    Parameters
    ----------
    numbers : ndarray of shape (n_customers, n_numbers)
        float64, NaN where unknown.
    names : sequence of str
        Names of the numbers, including ``TIME_FEATURES``.
    as_of_day : ndarray of shape (n_customers,)
        Midnight as of which they were computed, in days since 1970-01-01.
    vectors : sequence of ndarray
        Text embeddings; None where a customer has no text.
    others : sequence of mappings
        ``OTHERS`` by name.
    """
    column = {name: numbers[:, i] for i, name in enumerate(names)}
    stored = [as_of_day - column[name] for name in TIME_FEATURES[:8]]
    stored += [month_of(as_of_day) - column["months_since_first_order"], column["gap_mean_days"]]
    rest = [column[name] for name in names if name not in TIME_FEATURES]
    matrix = np.column_stack([*stored, *rest]).astype("<f8")
    floats = [vector.astype("<f4") if isinstance(vector, np.ndarray) else np.empty(0, "<f4") for vector in vectors]
    # DuckDB and Feast return lists as arrays
    texts = [json.dumps({name: row[name] for name in OTHERS}, default=np.ndarray.tolist) for row in others]
    return [
        row.tobytes() + len(vector).to_bytes(4, "little") + vector.tobytes() + text.encode()
        for row, vector, text in zip(matrix, floats, texts, strict=True)
    ]


def unpack(packed: Sequence[bytes | None], names: Sequence[str]) -> pd.DataFrame:
    """Unpack rows into one column per feature.

    Parameters
    ----------
    packed : sequence of bytes
        Packed rows that ``time_features.count_time`` returned; None for an unknown customer.
    names : sequence of str
        Names of the numbers other than ``TIME_FEATURES``, in packing order.

    Returns
    -------
    DataFrame
        Numbers as float64, ``text_embedding`` as float32 arrays, ``OTHERS``; null where unknown.
    """
    names = [*TIME_FEATURES, *names]
    width = 8 * len(names)
    numbers = np.full((len(packed), len(names)), np.nan)
    others = np.full((len(packed), 1 + len(OTHERS)), None, dtype=object)
    for i, row in enumerate(packed):
        if not isinstance(row, bytes):
            continue
        numbers[i] = np.frombuffer(row, "<f8", len(names))
        floats = int.from_bytes(row[width : width + 4], "little")
        rest = json.loads(row[width + 4 + 4 * floats :])
        others[i, 0] = np.frombuffer(row, "<f4", floats, width + 4) if floats else None
        others[i, 1:] = [rest[name] for name in OTHERS]
    frames = pd.DataFrame(numbers, columns=names), pd.DataFrame(others, columns=[EMBEDDING, *OTHERS])
    return pd.concat(frames, axis=1)
