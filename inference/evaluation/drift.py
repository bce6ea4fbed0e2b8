"""Bins of a distribution and the population stability index."""

import numpy as np
import pandas as pd

#: Bins of a feature with many values: tenths of its customers.
N_BINS = 10


#: A share counts as at least this much, so that an empty bin has a logarithm; SQL has the same in the macro psi().
LEAST_SHARE = 1e-4


def population_stability(bins: pd.DataFrame, values: np.ndarray) -> float:
    """Population stability index of values against bins and their shares, see ``bin_shares``."""
    known = values[~np.isnan(values)]
    edges = bins.up_to.dropna().to_numpy()
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    now = np.maximum(np.array([len(values) - len(known), *counts]) / len(values), LEAST_SHARE)
    then = np.maximum(bins.share.to_numpy(), LEAST_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def bin_shares(values: np.ndarray) -> pd.DataFrame:
    """Share of values in each bin.

    The bins are tenths of the known values. A value that a tenth of them have stands in a bin alone, and so does each
    value where there are at most ten: then what lies below or above all of them has empty bins of its own.

    Parameters
    ----------
    values : ndarray of shape (n_customers,)
        Not-a-number where unknown.

    Returns
    -------
    DataFrame
        ``bin``, ``is_missing``, ``above`` (exclusive), ``up_to`` (inclusive), ``share`` of all values. Bin 0 holds
        the missing ones. An end that is open is null.
    """
    known = values[~np.isnan(values)]
    edges = bin_edges(known)
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return pd.DataFrame(
        {
            "bin": np.arange(len(edges) + 2),
            "is_missing": [True] + [False] * (len(edges) + 1),
            "above": [np.nan, np.nan, *edges],
            "up_to": [np.nan, *edges, np.nan],
            "share": np.array([len(values) - len(known), *counts]) / max(len(values), 1),
        }
    )


def bin_edges(known: np.ndarray) -> np.ndarray:
    """Upper ends of the bins of known values but the last, which is open; rising."""
    if not len(known):
        return np.array([])
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= N_BINS:
        return np.union1d(distinct, np.nextafter(distinct, -np.inf))
    frequent = distinct[counts >= len(known) / N_BINS]
    tenths = np.quantile(known, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf")
    return np.unique(np.concatenate([tenths, frequent, np.nextafter(frequent, -np.inf)]))
