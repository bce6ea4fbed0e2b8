"""Who gets which contact under a budget: a linear program whose solution is all but whole."""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from inference.errors import ChurnRadarError

#: What of a solution of the solver counts as whole.
WHOLE = 1 - 1e-6


def allocate(
    profit: np.ndarray,
    cost: np.ndarray,
    budget: float | None = None,
    caps: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Choose at most one action per customer so that the expected profit is largest.

    A multiple-choice knapsack problem (Kellerer, Pferschy and Pisinger 2004, chapter 11). HiGHS solves it with shares
    of customers; a corner of that program has no more customers in shares than it has limits, each of whom then gets
    what still fits. So the choice earns at most those few customers' profit less than the best possible.

    Parameters
    ----------
    profit : ndarray of shape (n_customers, n_actions)
        Expected profit of each action, costs deducted, in the shop's currency; -inf where it may not be chosen.
    cost : ndarray of shape (n_actions,)
        Cost of one contact, 0 or more.
    budget : float, optional
        Most that all contacts may cost.
    caps : mapping of int to int, optional
        Most contacts by position of the action.

    Returns
    -------
    ndarray of shape (n_customers,), int64
        Position of the chosen action, -1 for none.

    Raises
    ------
    ChurnRadarError
        If the solver finds no solution in time.
    """
    chosen = np.full(len(profit), -1)
    if not profit.size:
        return chosen
    best = profit.argmax(axis=1)
    pays = profit[np.arange(len(profit)), best] > 0
    chosen[pays] = best[pays]
    caps = caps or {}
    if _fits(chosen, cost, budget, caps):
        return chosen
    customer, action = np.nonzero(profit > 0)
    n, pair = len(customer), np.arange(len(customer))
    once = csr_array(coo_array((np.ones(n), (customer, pair)), shape=(len(profit), n)))
    rows, limits = [once], [np.ones(len(profit))]
    if budget is not None:
        rows.append(csr_array(cost[action][None, :]))
        limits.append([budget])
    for capped, most in caps.items():
        rows.append(csr_array((action == capped).astype(float)[None, :]))
        limits.append([most])
    solved = linprog(
        -profit[customer, action],
        A_ub=vstack(rows, format="csr"),
        b_ub=np.concatenate(limits),
        bounds=(0, 1),
        method="highs-ipm",
    )
    if solved.status != 0:
        raise ChurnRadarError(f"contacts could not be chosen under churn__budget: {solved.message}")
    chosen[:] = -1
    whole = solved.x >= WHOLE
    chosen[customer[whole]] = action[whole]
    shared = np.flatnonzero((solved.x > 1 - WHOLE) & ~whole)
    for own in shared[np.argsort(-profit[customer[shared], action[shared]], kind="stable")]:
        tried = chosen.copy()
        tried[customer[own]] = action[own]
        if chosen[customer[own]] < 0 and _fits(tried, cost, budget, caps):
            chosen = tried
    return chosen


def _fits(chosen: np.ndarray, cost: np.ndarray, budget: float | None, caps: Mapping[int, int]) -> bool:
    counts = np.bincount(chosen[chosen >= 0], minlength=len(cost))
    within = budget is None or float(counts @ cost) <= budget
    return within and all(counts[action] <= most for action, most in caps.items())
