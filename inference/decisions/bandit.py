"""Exploration: a contextual bandit that draws actions with known probabilities."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from inference.decisions.contacts import NONE
from inference.scoring.score import BANDS

#: Draws by which the probabilities of the actions are measured, per cell of customers.
N_DRAWS = 500
#: Least probability of any allowed action, so that every action keeps being tested.
MIN_PROBABILITY = 0.02
#: Cells of customers: each risk band, once for those worth at most the median and once for those worth more.
N_CELLS = 2 * len(BANDS)


class Explorer:
    """Thompson sampling with a normal posterior of the mean reward per cell of customers and action.

    Linear Thompson sampling (Agrawal and Goyal 2013) with an indicator per cell as context, prior N(0, 1) and unit
    noise. All customers of a cell have the same probabilities; they are measured by many draws, and the action of each
    customer is then drawn from them, so the propensity of every assignment is known exactly.

    ``actions`` are those of the catalogue, in its order.
    """

    def __init__(self, actions: Sequence[str]) -> None:
        self.actions = list(actions)

    def fit(self, action: np.ndarray, reward: np.ndarray, band: Collection[str], value: np.ndarray) -> "Explorer":
        """Learn from contacts with a known outcome.

        ``action`` is ``none`` for nothing; actions that are not in the catalogue are skipped. ``reward`` is the margin
        that stayed minus the cost of the contact, ``value`` that of the customer, both in the shop's currency, and
        ``band`` the risk band; one of each per contact.
        """
        arm = pd.Index([*self.actions, NONE]).get_indexer(action)
        known = arm >= 0
        self.is_fitted_ = len(set(arm[known])) > 1
        if self.is_fitted_:
            scale = float(np.std(reward[known])) or 1.0
            self.median_ = float(np.median(value[known]))
            position = arm[known] * N_CELLS + self._cells(np.asarray(band, dtype=object)[known], value[known])
            n = (len(self.actions) + 1) * N_CELLS
            self.counts_ = np.bincount(position, minlength=n).reshape(-1, N_CELLS)
            sums = np.bincount(position, reward[known] / scale, minlength=n).reshape(-1, N_CELLS)
            self.means_ = sums / (1 + self.counts_)
        return self

    def probabilities(self, allowed: np.ndarray, band: Collection[str], value: np.ndarray) -> np.ndarray:
        """Probability that each action and, last, doing nothing is drawn, shape (n_customers, n_actions + 1).

        ``allowed``, of shape (n_customers, n_actions), are the actions that each customer may get; doing nothing is
        always allowed. ``band`` and ``value`` are as in ``fit``. Rows sum to 1.
        """
        n_arms = len(self.actions) + 1
        if self.is_fitted_:
            # cells in descending order, in which earlier versions drew
            cells, inverse = np.unique(-self._cells(np.asarray(band, dtype=object), value), return_inverse=True)
            probability = self._cell_probabilities(-cells)[inverse]
        else:
            probability = np.full((len(allowed), n_arms), 1 / n_arms)
        can_get = np.column_stack([allowed, np.ones(len(allowed), bool)])
        probability = np.where(can_get, np.maximum(probability, MIN_PROBABILITY), 0)
        return probability / probability.sum(axis=1, keepdims=True)

    def _cells(self, band: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Cell of each customer."""
        return 2 * pd.Index(BANDS).get_indexer(band) + (value > self.median_)

    def _cell_probabilities(self, cells: np.ndarray) -> np.ndarray:
        """Share of draws of the posterior in which each arm has the highest mean reward, shape (n_cells, n_arms)."""
        # the draws of MABWiser 2.7, which earlier versions used: all tried arms share theirs
        tried, untried = np.random.default_rng(0), np.random.default_rng(0)
        shape = N_DRAWS, N_CELLS
        shares = np.empty((len(cells), len(self.counts_)))
        for i, cell in enumerate(cells):
            untried.random(N_DRAWS)
            shared = tried.standard_normal(shape)[:, cell]
            normal = [shared if count.any() else untried.standard_normal(shape)[:, cell] for count in self.counts_]
            draws = self.means_[:, [cell]] + np.array(normal) / np.sqrt(1 + self.counts_[:, [cell]])
            shares[i] = np.bincount(draws.argmax(axis=0), minlength=len(self.counts_)) / N_DRAWS
        return shares


def draw(probability: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Position of the action that each uniform number from 0 to 1 draws, -1 for none; shape (n_customers,)."""
    drawn = (uniform[:, None] >= np.cumsum(probability, axis=1)[:, :-1]).sum(axis=1)
    return np.where(drawn == probability.shape[1] - 1, -1, drawn)
