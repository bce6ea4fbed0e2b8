"""Arithmetic by SQL's rules: unknown values (None or NaN) are skipped, and decimals add up without rounding errors."""

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

import numpy as np


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether a value is neither None nor NaN."""
    return value is not None and value == value


def exact(value: float | None) -> float | None:
    """Round to four decimals, half away from zero, as the macro ``exact`` casts; None where unknown."""
    return math.copysign(math.floor(abs(value) * 1e4 + 0.5) / 1e4, value) if is_known(value) else None


def known_values(values: Iterable) -> list[float]:
    """Return the known values as floats."""
    return [float(value) for value in values if is_known(value)]


def total(values: Sequence[float] | np.ndarray) -> float:
    """Add values of four decimals as SQL adds decimals."""
    return round(float(np.sum(values)), 4)


def mean(values: Iterable) -> float | None:
    """Return the mean of the known values; None without any."""
    known = known_values(values)
    return sum(known) / len(known) if known else None


def largest(values: Iterable) -> float | None:
    """Return the largest known value; None without any."""
    return max(known_values(values), default=None)


def smallest(values: Iterable) -> float | None:
    """Return the smallest known value; None without any."""
    return min(known_values(values), default=None)


def ratio(part: float | None, whole: float | None) -> float | None:
    """Divide; None where the part is unknown or the whole is 0 or unknown."""
    return None if part is None or not whole else part / whole


def difference(value: float | None, other: float | None) -> float | None:
    """Subtract; None where either is unknown."""
    return float(value) - other if is_known(value) and other is not None else None
