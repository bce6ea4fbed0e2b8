"""Features that change as time passes: days since the last order and the like, computed when features are read.

The on-demand feature view ``churn_features`` computes them from stored dates, so that the risk of a customer who does
nothing grows between two builds too. They count up to each row's event timestamp in training, and up to now online.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

#: First values of a packed row: days since 1970-01-01 of the last event of each kind, the month (since 1970-01) of
#: the first order, and the mean gap between orders.
STORED = (
    "last_order",
    "first_order",
    "last_visit",
    "last_redemption",
    "last_contact",
    "last_review",
    "last_review_complaint",
    "last_ticket",
    "first_order_month",
    "gap_mean_days",
)
#: Features computed from the stored values, in the same order.
TIME_FEATURES = (
    *(f"days_since_{name}" for name in STORED[:8]),
    "months_since_first_order",
    "overdue_ratio",
)
#: Bytes of the stored values, and of the features.
WIDTH = 8 * len(STORED)


def count_time(packed: Sequence[bytes | None], moments: Sequence[datetime] | None = None) -> list[bytes | None]:
    """Replace the stored values of packed rows by ``TIME_FEATURES``.

    Parameters
    ----------
    packed : sequence of bytes
        ``model_features.packed`` of each customer; None for an unknown customer.
    moments : sequence of datetime, optional
        Moment for each row, rounded down to midnight UTC; now by default.

    Returns
    -------
    list of bytes
        The rows with their first ``WIDTH`` bytes replaced; None for an unknown customer.
    """
    # `feast apply` calls the view with short placeholder bytes, which stay as they are
    known = {i: row for i, row in enumerate(packed) if row is not None and len(row) >= WIDTH}
    dates = [_now().date()] if moments is None else [moments[i].date() for i in known]
    days = np.array(dates, "datetime64[D]").astype(np.int64)
    stored = np.frombuffer(b"".join([row[:WIDTH] for row in known.values()]), "<f8").reshape(len(known), len(STORED))
    result = list(packed)
    for (i, row), features in zip(known.items(), time_features(stored, days), strict=True):
        result[i] = features.tobytes() + row[WIDTH:]
    return result


def time_features(stored: np.ndarray, as_of_day: np.ndarray) -> np.ndarray:
    """Compute ``TIME_FEATURES`` as of a midnight, or as of the midnight after the last event if that is later.

    ``stored`` has the shape (n_customers, 10), like the result: float64, NaN where unknown. ``as_of_day`` has the shape
    (n_customers,) or (1,): days since 1970-01-01, int64.
    """
    last_event = np.fmax.reduce(stored[:, :8], axis=1)
    day = np.fmax(as_of_day, last_event + 1)
    counted = np.empty_like(stored)
    counted[:, :8] = day[:, None] - stored[:, :8]
    counted[:, 8] = month_of(day) - stored[:, 8]
    counted[:, 9] = counted[:, 0] / stored[:, 9]  # the gap is never 0: it is between different days
    return counted


def month_of(day: np.ndarray) -> np.ndarray:
    """Months since 1970-01 of days since 1970-01-01, int64."""
    return day.astype("datetime64[D]").astype("datetime64[M]").astype("int64")


def _now() -> datetime:
    return datetime.now(UTC)
