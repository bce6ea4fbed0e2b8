"""Features that change with time alone: counted from the days on which something happened.

The on-demand feature view ``churn_features`` counts them when they are asked for, so that a customer who does nothing
still grows riskier between two builds: in training to each row's event timestamp, online to now.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np

#: What a packed row begins with: days from 1970-01-01 of what happened, and what else time is counted by.
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
#: What is made of them, in this order.
TIME_FEATURES = (
    *(f"days_since_{name}" for name in STORED[:8]),
    "months_since_first_order",
    "overdue_ratio",
)
#: Bytes of either.
WIDTH = 8 * len(STORED)
EPOCH = date(1970, 1, 1).toordinal()


def count_time(packed: Sequence[bytes | None], moments: Sequence[datetime] | None = None) -> list[bytes | None]:
    """Put ``TIME_FEATURES`` in the place of what is ``STORED``.

    Parameters
    ----------
    packed : sequence of bytes
        ``model_features.packed`` of each customer; None where nothing is known of one.
    moments : sequence of datetime, optional
        The moment of each, of which the midnight before (UTC) counts; now where none are given.

    Returns
    -------
    list of bytes
        As they came, but for their first ``WIDTH`` bytes; None where nothing is known.
    """
    known = [i for i, row in enumerate(packed) if row is not None and len(row) >= WIDTH]
    dates = [_now().date()] if moments is None else [moments[i].date() for i in known]
    days = np.array([day.toordinal() - EPOCH for day in dates])
    stored = np.frombuffer(b"".join([packed[i][:WIDTH] for i in known]), "<f8").reshape(len(known), len(STORED))
    counted = time_features(stored, days).tobytes()
    # bytes of another length are what Feast tries this with when the view is applied
    found = list(packed)
    for position, i in enumerate(known):
        found[i] = counted[position * WIDTH : (position + 1) * WIDTH] + packed[i][WIDTH:]
    return found


def time_features(stored: np.ndarray, as_of_day: np.ndarray) -> np.ndarray:
    """Count from what is ``STORED`` to a midnight, or to the next where something has happened since.

    Parameters
    ----------
    stored : ndarray of shape (n_customers, 10)
        float64, not a number where unknown.
    as_of_day : ndarray of shape (n_customers,) or (1,)
        Midnights, in days from 1970-01-01, int64.

    Returns
    -------
    ndarray of shape (n_customers, 10)
        ``TIME_FEATURES``, float64, not a number where unknown.
    """
    happened = np.fmax.reduce(stored[:, :8], axis=1)
    day = np.fmax(as_of_day, happened + 1)
    counted = np.empty_like(stored)
    counted[:, :8] = day[:, None] - stored[:, :8]
    counted[:, 8] = month_of(day) - stored[:, 8]
    counted[:, 9] = counted[:, 0] / stored[:, 9]  # days with orders are at least one apart
    return counted


def month_of(day: np.ndarray) -> np.ndarray:
    """Return the months from 1970-01 of days from 1970-01-01, int64."""
    return day.astype("datetime64[D]").astype("datetime64[M]").astype("int64")


def _now() -> datetime:
    return datetime.now(UTC)
