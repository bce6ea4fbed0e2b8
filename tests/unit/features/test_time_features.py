"""What changes although nothing happens: counted from days that can be checked by eye."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.features import time_features
from inference.features.time_features import STORED, TIME_FEATURES, WIDTH, count_time

NAN = float("nan")
BEHIND = b"whatever else is known"


def day(text: str) -> float:
    return float((date.fromisoformat(text) - date(1970, 1, 1)).days)


def stored(**known: float) -> bytes:
    """What is stored of a customer, with something behind it."""
    return np.array([known.get(name, NAN) for name in STORED], "<f8").tobytes() + BEHIND


def counted(row: bytes) -> dict[str, float]:
    assert row[WIDTH:] == BEHIND
    values = np.frombuffer(row[:WIDTH], "<f8")
    return {name: value for name, value in zip(TIME_FEATURES, values, strict=True) if value == value}


BUYER = {
    "last_order": day("2024-02-20"),
    "first_order": day("2023-11-30"),
    "first_order_month": (2023 - 1970) * 12 + 10,
    "gap_mean_days": 10.0,
}


def test_days_months_and_how_overdue_are_counted_to_the_moment() -> None:
    (row,) = count_time([stored(**BUYER)], [datetime(2024, 3, 1, 17, 30, tzinfo=UTC)])
    assert counted(row) == {
        "days_since_last_order": 10.0,
        "days_since_first_order": 92.0,
        "months_since_first_order": 4.0,
        "overdue_ratio": 1.0,
    }


def test_a_customer_who_does_nothing_is_more_overdue_every_day(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = []
    for later in range(3):
        monkeypatch.setattr(time_features, "_now", lambda now=datetime(2024, 3, 1 + later, 9, tzinfo=UTC): now)
        ratios.append(counted(count_time([stored(**BUYER)])[0])["overdue_ratio"])
    assert ratios == pytest.approx([1.0, 1.1, 1.2])


def test_after_something_happened_time_is_counted_to_the_next_midnight() -> None:
    # as the build of the next day will count
    (row,) = count_time([stored(**BUYER | {"last_visit": day("2024-03-01")})], [datetime(2024, 3, 1, 12, tzinfo=UTC)])
    assert counted(row)["days_since_last_visit"] == 1.0
    assert counted(row)["days_since_last_order"] == 11.0


def test_what_is_not_known_stays_unknown_and_nobody_is_mixed_up() -> None:
    moments = [datetime(2024, 3, 1, tzinfo=UTC)] * 3
    nobody, first, second = count_time([None, stored(last_visit=day("2024-02-29")), stored(**BUYER)], moments)
    assert nobody is None
    assert counted(first) == {"days_since_last_visit": 1.0}
    assert counted(second)["days_since_last_order"] == 10.0
    assert count_time([], []) == []


def test_a_first_order_has_no_gap_to_be_overdue_by() -> None:
    (row,) = count_time([stored(last_order=day("2024-02-20"))], [datetime(2024, 3, 1, tzinfo=UTC)])
    assert counted(row) == {"days_since_last_order": 10.0}


@given(
    last=st.integers(0, 700),
    waited=st.integers(1, 700),
    later=st.integers(0, 400),
    gap=st.floats(0.5, 400),
)
def test_every_day_that_passes_adds_one(last: int, waited: int, later: int, gap: float) -> None:
    row = stored(last_order=day("2022-01-01") + last, gap_mean_days=gap)
    now = datetime(2022, 1, 1, tzinfo=UTC) + timedelta(days=last + waited)
    early, late = (counted(count_time([row], [now + timedelta(days=days)])[0]) for days in (0, later))
    assert early["days_since_last_order"] == waited
    assert late["days_since_last_order"] - early["days_since_last_order"] == later
    assert late["overdue_ratio"] == pytest.approx((waited + later) / gap)
