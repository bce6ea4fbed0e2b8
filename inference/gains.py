"""By how much one thing predicts better than another: paired differences of log-loss on the same later rows."""

import numpy as np
import pandas as pd
from scipy.special import expit

from inference.calibration import level_shift
from inference.members import MEMBERS


def gain_of_words(without: pd.DataFrame, with_words: pd.DataFrame) -> dict[str, float] | None:
    """Measure how much words lower the log-loss of later snapshots, with a 95 % interval of the paired difference.

    Returns
    -------
    dict of str to float or None
        ``mean``, ``low`` and ``high``, in nats per customer at the true level; None with fewer than two
        later snapshots, on which nothing can be earned.
    """
    if without.empty or without.as_of_date.nunique() < 2:
        return None
    names = [name for name in MEMBERS if name in without]
    losses = [losses_at_true_level(table, names) for table in (without, with_words)]
    return paired_gain(losses[0] - losses[1], without.customer_id.to_numpy())


def paired_gain(differences: np.ndarray, customers: np.ndarray, errors: float = 1.96) -> dict[str, float]:
    """Mean of paired differences of losses with its interval.

    One customer's snapshots are not independent, so the unit is the customer (a ratio estimator's variance,
    Cochran 1977, section 6.3).

    Parameters
    ----------
    differences : ndarray of shape (n_rows,)
        Loss without minus loss with.
    customers : ndarray of shape (n_rows,)
        Whose row each is.
    errors : float
        Half the width of the interval in standard errors; 1.96 of them make it one of 95 %.

    Returns
    -------
    dict of str to float
        ``mean``, ``low`` and ``high``.
    """
    gain = pd.Series(differences).groupby(customers).agg(["sum", "size"])
    mean = gain["sum"].sum() / gain["size"].sum()
    deviation = gain["sum"] - mean * gain["size"]
    error = np.sqrt((deviation**2).sum()) / gain["size"].sum()
    return {"mean": float(mean), "low": float(mean - errors * error), "high": float(mean + errors * error)}


def losses_at_true_level(validation: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Log-loss of an average for each row, at the true level of its snapshot, shape (n_rows,)."""
    probabilities = np.empty(len(validation))
    for rows in validation.groupby("as_of_date").indices.values():
        logit = validation.iloc[rows][names].mean(axis=1).to_numpy()
        rate = validation.churned.iloc[rows].mean()
        probabilities[rows] = expit(logit + level_shift(logit, rate))
    return -np.log(np.where(validation.churned == 1, probabilities, 1 - probabilities))
