"""Qini curve: how well predicted effects rank customers, where contacts were randomised.

All values are in customers kept per customer: 0.02 is two more of a hundred who stay.
"""

import numpy as np


def qini_curve(
    uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the customers, from 0 to 1, and customers kept when those of highest predicted uplift are treated.

    The Qini curve of Radcliffe (2007) in the notation of Gutierrez and Gerardy (2017): among the t customers of the
    highest predicted uplift,

        Y_T(t) - Y_C(t) * N_T(t) / N_C(t)

    where N counts the treated (T) and the untreated (C) and Y those of them who stayed; here divided by the number of
    all treated. With ``propensity`` each customer has the weight 1 over the probability of the treatment they got,
    and the weights of each group sum to 1.

    Customers of equal predicted uplift enter together. The curve is a straight line up to the first point at which
    both groups are present; its last point is the average effect.

    Parameters
    ----------
    uplift : ndarray of shape (n_customers,)
        Predicted decrease of the churn probability by a contact; only the order matters.
    treated : ndarray of shape (n_customers,)
        1 for contacted customers, 0 for those held out; both must occur.
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0.
    propensity : ndarray of shape (n_customers,), optional
        Probability, above 0 and below 1, that each customer was contacted.

    Raises
    ------
    ValueError
        If a group is empty, or a propensity is not above 0 and below 1.
    """
    treated, stayed = np.asarray(treated, dtype=bool), 1 - np.asarray(churned, dtype=float)
    if treated.all() or not treated.any():
        raise ValueError(
            f"{treated.sum()} of {len(treated)} customers were treated; expected some who were and some who were not"
        )
    p = np.full(len(treated), 0.5) if propensity is None else np.asarray(propensity, dtype=float)
    if not ((p > 0) & (p < 1)).all():
        raise ValueError(f"propensities lie from {p.min()} to {p.max()}; expected them above 0 and below 1")
    weight = 1 / np.where(treated, p, 1 - p)
    weight /= np.where(treated, weight[treated].sum(), weight[~treated].sum())
    order = np.argsort(-np.asarray(uplift, dtype=float), kind="stable")
    columns = np.stack([np.full(len(order), 1 / len(order)), weight * treated, weight * ~treated])
    columns = np.vstack([columns, columns[1:] * stayed])[:, order]
    ends = np.append(np.flatnonzero(np.diff(np.asarray(uplift)[order])), len(order) - 1)
    summed = columns.cumsum(axis=1)[:, ends]
    comparable = (summed[1] > 0) & (summed[2] > 0)
    share, n_treated, n_control, y_treated, y_control = np.insert(summed[:, comparable], 0, 0, axis=1)
    return share, y_treated - y_control * np.divide(n_treated, n_control, np.zeros_like(share), where=n_control > 0)


def qini_coefficient(
    uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None = None
) -> float:
    """Area between the Qini curve, with its arguments, and the straight line of a random order (Radcliffe 2007).

    0 for a random ranking, negative for a worse one. It is not divided by the area of the best possible curve: that
    curve supposes that every contacted customer who stayed did so because of the contact, which nobody observes, and
    the ratio would change with the churn rate.
    """
    share, kept = qini_curve(uplift, treated, churned, propensity)
    return float(np.trapezoid(kept, share) - kept[-1] / 2)
