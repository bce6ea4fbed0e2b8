"""Contacts are chosen so that the profit is largest within budget and caps."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decisions.allocation import Limits, allocate, withdraw_excess

COST = np.array([1.0, 3.0])


def total_profit(profit: np.ndarray, chosen: np.ndarray) -> float:
    return float(sum(profit[i, a] for i, a in enumerate(chosen) if a >= 0))


def spent(chosen: np.ndarray) -> float:
    return float(COST[chosen[chosen >= 0]].sum())


def test_without_limits_everybody_gets_the_most_profitable_action_if_it_is_profitable():
    profit = np.array([[2.0, 5.0], [-1.0, -0.5], [4.0, 4.0], [-np.inf, 1.0]])
    assert allocate(profit, Limits(COST)).tolist() == [1, -1, 0, 1]


def test_a_budget_of_nothing_contacts_nobody():
    assert allocate(np.full((3, 2), 9.0), Limits(COST, budget=0.0)).tolist() == [-1, -1, -1]


def test_three_cheap_contacts_replace_an_expensive_one_of_less_profit():
    profit = np.array([[0.0, 6.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    assert allocate(profit, Limits(COST, budget=3.0)).tolist() == [-1, 0, 0, 0]


def test_capped_actions_go_to_the_customers_of_most_profit():
    profit = np.array([[1.0, 9.0], [1.0, 5.0], [1.0, 8.0]])
    assert allocate(profit, Limits(COST, caps={1: 2})).tolist() == [1, 0, 1]


def test_no_customers():
    assert allocate(np.empty((0, 2)), Limits(COST, budget=1.0)).tolist() == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 20), st.integers(-5, 20)), min_size=1, max_size=6),
    st.integers(0, 12),
    st.integers(0, 4),
)
def test_the_profit_is_at_most_two_customers_below_the_optimum(rows, budget, cap):
    profit = np.array(rows, dtype=float)
    chosen = allocate(profit, Limits(COST, budget, {1: cap}))
    assert spent(chosen) <= budget
    assert (chosen == 1).sum() <= cap
    possible = [np.array(c) for c in product((-1, 0, 1), repeat=len(rows))]
    best = max(total_profit(profit, c) for c in possible if spent(c) <= budget and (c == 1).sum() <= cap)
    assert total_profit(profit, chosen) >= best - 2 * max(profit.max(), 0)


def test_drawn_contacts_beyond_budget_and_caps_are_withdrawn_in_order():
    drawn = np.array([1, 0, 1, -1, 1, 0])
    withdraw_excess(drawn, np.array([4, 3, 2, 1, 0, 5]), Limits(COST, budget=7.5, caps={1: 2}))
    assert drawn.tolist() == [-1, 0, 1, -1, 1, -1]
