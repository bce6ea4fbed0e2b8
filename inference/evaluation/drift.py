"""Bins of a distribution and the population stability index (PSI)."""

import numpy as np
import pandas as pd

#: Bins of a feature with many distinct values: deciles.
N_BINS = 10

#: Lower bound of a share, so that an empty bin has a finite logarithm; the SQL macro psi() uses the same.
MIN_SHARE = 1e-4


def population_stability(bins: pd.DataFrame, values: np.ndarray) -> float:
    """Population stability index of values, NaN where unknown, against a distribution of ``bin_shares``."""
    now = np.maximum(_shares(values, bins.up_to.dropna().to_numpy()), MIN_SHARE)
    reference = np.maximum(bins.share.to_numpy(), MIN_SHARE)
    return float(((now - reference) * np.log(now / reference)).sum())


def bin_shares(values: np.ndarray) -> pd.DataFrame:
    """Share of values in each bin: ``bin``, ``is_missing``, ``above`` (exclusive), ``up_to`` (inclusive), ``share``.

    Bin 0 holds the missing values, which are NaN; an open end is null. The other bins are deciles of the known values.
    A value held by a tenth of the customers has a bin of its own, and so has every value where there are at most ten;
    values below or above all known ones then fall into empty bins.
    """
    edges = bin_edges(values[~np.isnan(values)])
    return pd.DataFrame(
        {
            "bin": np.arange(len(edges) + 2),
            "is_missing": [True] + [False] * (len(edges) + 1),
            "above": [np.nan, np.nan, *edges],
            "up_to": [np.nan, *edges, np.nan],
            "share": _shares(values, edges),
        }
    )


def bin_edges(known: np.ndarray) -> np.ndarray:
    """Upper ends of the bins of known values, ascending; the last bin is open and has none."""
    if not len(known):
        return np.array([])
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= N_BINS:
        return np.union1d(distinct, np.nextafter(distinct, -np.inf))
    frequent = distinct[counts >= len(known) / N_BINS]
    deciles = np.quantile(known, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf")
    return np.unique(np.concatenate([deciles, frequent, np.nextafter(frequent, -np.inf)]))


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of missing values, then of the values in each bin."""
    known = values[~np.isnan(values)]
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return np.array([len(values) - len(known), *counts]) / max(len(values), 1)
