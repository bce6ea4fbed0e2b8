"""How much one model lowers the log-loss of another: paired differences on the same rows."""

import numpy as np
import pandas as pd


def paired_gain(differences: np.ndarray, customers: np.ndarray, errors: float = 1.96) -> dict[str, float]:
    """Mean of paired differences of losses with its confidence interval.

    Snapshots of one customer are not independent, so the sampling unit is the customer (variance of a ratio
    estimator, Cochran 1977, section 6.3).

    Parameters
    ----------
    differences : ndarray of shape (n_rows,)
        Loss of the reference minus loss of the candidate.
    customers : ndarray of shape (n_rows,)
        Customer of each row.
    errors : float
        Half the width of the interval in standard errors; 1.96 give 95 %.

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
