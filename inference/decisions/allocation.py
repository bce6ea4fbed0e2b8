"""Who gets which contact under a budget: a multiple-choice knapsack problem, solved as a linear program."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from inference.errors import ChurnRadarError

#: Tolerance within which a share in the solver's answer counts as 0 or 1.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Limits:
    """Limits of the contacts with a group of customers; amounts in the shop's currency."""

    #: Cost of one contact of each action, 0 or more, shape (n_actions,).
    cost: np.ndarray
    #: Maximum cost of all contacts.
    budget: float | None = None
    #: Maximum number of contacts by position of the action.
    caps: Mapping[int, int] = field(default_factory=dict)

    def scaled(self, share: float) -> "Limits":
        """Limits of a part of the group."""
        budget = None if self.budget is None else self.budget * share
        return Limits(self.cost, budget, {action: int(cap * share) for action, cap in self.caps.items()})

    def allow(self, chosen: np.ndarray) -> bool:
        """Whether actions by position, -1 for none, keep to the limits."""
        counts = np.bincount(chosen[chosen >= 0], minlength=len(self.cost))
        is_affordable = self.budget is None or float(counts @ self.cost) <= self.budget
        return is_affordable and all(counts[action] <= cap for action, cap in self.caps.items())


def allocate(profit: np.ndarray, limits: Limits) -> np.ndarray:
    """Choose at most one action per customer so that the expected profit is largest.

    The multiple-choice knapsack problem (Kellerer, Pferschy and Pisinger 2004, chapter 11) without integrality is
    solved by HiGHS. A basic solution splits at most as many customers as there are limits; these are rounded greedily,
    so the total profit is at most theirs below the optimum.

    Parameters
    ----------
    profit : ndarray of shape (n_customers, n_actions)
        Expected profit of each action, costs deducted, in the shop's currency; -inf where it may not be chosen.

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
    return chosen if limits.allow(chosen) else _allocate_scarce(profit, limits)


def withdraw_excess(drawn: np.ndarray, order: np.ndarray, limits: Limits) -> None:
    """Set drawn actions (positions, -1 for none) beyond the limits to -1, in place.

    ``order`` holds the positions of the customers that the limits are for, the first served first.
    """
    order = order[drawn[order] >= 0]
    is_excess = np.zeros(len(order), dtype=bool)
    for action, cap in limits.caps.items():
        has_action = drawn[order] == action
        is_excess |= has_action & (np.cumsum(has_action) > cap)
    if limits.budget is not None:
        is_excess |= np.cumsum(np.where(is_excess, 0.0, limits.cost[drawn[order]])) > limits.budget
    drawn[order[is_excess]] = -1


def _allocate_scarce(profit: np.ndarray, limits: Limits) -> np.ndarray:
    """Solve the linear program over the profitable pairs of customer and action, and round it."""
    customer, action = np.nonzero(profit > 0)
    pair_profit, n_pairs = profit[customer, action], len(customer)
    rows = [csr_array(coo_array((np.ones(n_pairs), (customer, np.arange(n_pairs))), shape=(len(profit), n_pairs)))]
    bounds = [np.ones(len(profit))]  # at most one action per customer
    if limits.budget is not None:
        rows.append(csr_array(limits.cost[action][None, :]))
        bounds.append(np.array([limits.budget]))
    for capped, cap in limits.caps.items():
        rows.append(csr_array((action == capped).astype(float)[None, :]))
        bounds.append(np.array([cap]))
    solved = linprog(
        -pair_profit,
        A_ub=vstack(rows, format="csr"),
        b_ub=np.concatenate(bounds),
        bounds=(0, 1),
        method="highs-ipm",
    )
    if solved.status != 0:
        raise ChurnRadarError(f"contacts could not be chosen under churn__budget: {solved.message}")
    chosen = np.full(len(profit), -1)
    is_whole = solved.x >= 1 - TOLERANCE
    chosen[customer[is_whole]] = action[is_whole]
    split = np.flatnonzero((solved.x > TOLERANCE) & ~is_whole)
    for pair in split[np.argsort(-pair_profit[split], kind="stable")]:
        candidate = chosen.copy()
        candidate[customer[pair]] = action[pair]
        if chosen[customer[pair]] < 0 and limits.allow(candidate):
            chosen = candidate
    return chosen
