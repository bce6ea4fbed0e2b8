"""Contacts are chosen so that they earn most within budget and caps."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decisions.allocation import allocate

COST = np.array([1.0, 3.0])


def earned(profit: np.ndarray, chosen: np.ndarray) -> float:
    return float(sum(profit[i, a] for i, a in enumerate(chosen) if a >= 0))


def spent(chosen: np.ndarray) -> float:
    return float(COST[chosen[chosen >= 0]].sum())


def test_without_a_budget_everybody_gets_what_earns_most_if_it_earns_anything():
    profit = np.array([[2.0, 5.0], [-1.0, -0.5], [4.0, 4.0], [-np.inf, 1.0]])
    assert allocate(profit, COST).tolist() == [1, -1, 0, 1]


def test_a_budget_of_nothing_contacts_nobody():
    assert allocate(np.full((3, 2), 9.0), COST, budget=0.0).tolist() == [-1, -1, -1]


def test_a_dear_contact_gives_way_to_three_cheap_ones():
    profit = np.array([[0.0, 6.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    assert allocate(profit, COST, budget=3.0).tolist() == [-1, 0, 0, 0]


def test_a_cap_holds_and_goes_to_whom_it_serves_best():
    profit = np.array([[1.0, 9.0], [1.0, 5.0], [1.0, 8.0]])
    assert allocate(profit, COST, caps={1: 2}).tolist() == [1, 0, 1]


def test_nobody_to_decide_about():
    assert allocate(np.empty((0, 2)), COST, budget=1.0).tolist() == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 20), st.integers(-5, 20)), min_size=1, max_size=6),
    st.integers(0, 12),
    st.integers(0, 4),
)
def test_the_choice_is_at_most_two_customers_worse_than_the_best_of_all(rows, budget, most):
    profit = np.array(rows, dtype=float)
    chosen = allocate(profit, COST, budget=budget, caps={1: most})
    assert spent(chosen) <= budget
    assert (chosen == 1).sum() <= most
    possible = [np.array(c) for c in product((-1, 0, 1), repeat=len(rows))]
    best = max(earned(profit, c) for c in possible if spent(c) <= budget and (c == 1).sum() <= most)
    assert earned(profit, chosen) >= best - 2 * max(profit.max(), 0)
