"""By how much one thing predicts better than another: paired differences of log-loss on the same later rows."""

import numpy as np
import pandas as pd


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
