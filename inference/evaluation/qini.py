"""How well a ranking by predicted effect finds those whom a contact keeps, where contacts were randomised.

All figures are in customers kept per customer: 0.02 is two more of a hundred who stay.
"""

import numpy as np


def qini_curve(
    uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Customers kept when the best by predicted uplift are treated, for every share of them.

    The Qini curve of Radcliffe (2007), as Gutierrez and Gerardy (2017) write it: among the t customers of the highest
    predicted uplift,

        Y_T(t) - Y_C(t) * N_T(t) / N_C(t)

    where N are the treated (T) and the untreated (C) among them and Y those of them who stayed; here divided by the
    number of all treated. With a propensity each customer counts 1 over the chance of what was done to them, scaled so
    that the treated, and the untreated, are one in sum; without, or where it is the same for all, each counts the same.

    Customers of equal predicted uplift enter together. As long as one of the two groups is empty nothing can be told,
    so the curve runs straight to the first point at which neither is.

    Parameters
    ----------
    uplift : ndarray of shape (n_customers,)
        By how much a contact is predicted to lower the probability of churn; only the order matters.
    treated : ndarray of shape (n_customers,)
        1 for those who were contacted, 0 for those who were deliberately not; both must occur.
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0.
    propensity : ndarray of shape (n_customers,), optional
        Probability, above 0 and below 1, with which each customer was to be contacted.

    Returns
    -------
    tuple of ndarray
        Share of the customers from 0 to 1, and customers kept per customer; the last is the average effect.

    Raises
    ------
    ValueError
        If a group is empty, or a propensity is not above 0 and below 1.
    """
    share, n_treated, n_control, y_treated, y_control = _cumulated(uplift, treated, churned, propensity)
    return share, y_treated - y_control * np.divide(n_treated, n_control, np.zeros_like(share), where=n_control > 0)


def qini_coefficient(
    uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None = None
) -> float:
    """Area between the Qini curve and the straight line of customers who are taken at random (Radcliffe 2007).

    0 for a ranking that knows nothing, negative for one that is worse. It is not divided by the area of the best
    possible curve: nobody sees who would have stayed anyway, so that curve supposes that every contacted customer who
    stayed did so because of it, and the ratio would change with the churn rate.

    Parameters
    ----------
    uplift, treated, churned, propensity : ndarray
        As in ``qini_curve``.

    Returns
    -------
    float
    """
    share, kept = qini_curve(uplift, treated, churned, propensity)
    return float(np.trapezoid(kept, share) - kept[-1] / 2)


def auuc(uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None = None) -> float:
    """Area under the uplift curve of Gutierrez and Gerardy (2017).

    The curve is, with the names of ``qini_curve`` and divided by the number of customers,

        (Y_T(t) / N_T(t) - Y_C(t) / N_C(t)) * (N_T(t) + N_C(t))

    the effect on the best t customers times their number. A ranking that knows nothing gets half of the average effect.

    Parameters
    ----------
    uplift, treated, churned, propensity : ndarray
        As in ``qini_curve``.

    Returns
    -------
    float
    """
    share, n_treated, n_control, y_treated, y_control = _cumulated(uplift, treated, churned, propensity)
    rates = [
        np.divide(y, n, np.zeros_like(share), where=n > 0) for y, n in ((y_treated, n_treated), (y_control, n_control))
    ]
    return float(np.trapezoid((rates[0] - rates[1]) * share, share))


def _cumulated(
    uplift: np.ndarray, treated: np.ndarray, churned: np.ndarray, propensity: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """Share of customers, and weights of treated, untreated and of those who stayed, at each different uplift."""
    treated, stayed = np.asarray(treated, dtype=bool), 1 - np.asarray(churned, dtype=float)
    if treated.all() or not treated.any():
        raise ValueError(
            f"{treated.sum()} of {len(treated)} customers were treated; expected some who were and some who were not"
        )
    chance = np.full(len(treated), 0.5) if propensity is None else np.asarray(propensity, dtype=float)
    if not ((chance > 0) & (chance < 1)).all():
        raise ValueError(f"propensities lie from {chance.min()} to {chance.max()}; expected them above 0 and below 1")
    weight = 1 / np.where(treated, chance, 1 - chance)
    weight /= np.where(treated, weight[treated].sum(), weight[~treated].sum())
    order = np.argsort(-np.asarray(uplift, dtype=float), kind="stable")
    columns = np.stack([np.full(len(order), 1 / len(order)), weight * treated, weight * ~treated])
    columns = np.vstack([columns, columns[1:] * stayed])[:, order]
    ends = np.append(np.flatnonzero(np.diff(np.asarray(uplift)[order])), len(order) - 1)
    summed = columns.cumsum(axis=1)[:, ends]
    told = (summed[1] > 0) & (summed[2] > 0)
    return tuple(np.insert(summed[:, told], 0, 0, axis=1))
