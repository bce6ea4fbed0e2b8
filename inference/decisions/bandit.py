"""Trying what is not known to be best: a contextual bandit whose chances are known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from mabwiser.mab import MAB, LearningPolicy

from inference.scoring.score import BANDS

NONE = "none"
#: Draws by which the chance of each action is measured, per cell of customers.
DRAWS = 500
#: A chance of nothing at all would never be found to be wrong.
LEAST_CHANCE = 0.02


class Explorer:
    """Thompson sampling with a linear model of the reward (Agrawal and Goyal 2013), by MABWiser.

    Customers are told apart by risk band, and by whether they are worth more than the median; within such a cell all
    have the same chances, which are measured by drawing often, and from which the action of each customer is drawn.
    So the chance with which an action was assigned is known exactly.

    Parameters
    ----------
    actions : sequence of str
        Of the catalogue, in its order.
    seed : int
        The same seed and contacts give the same chances.
    """

    def __init__(self, actions: Sequence[str], seed: int = 0) -> None:
        self.actions, self.seed = list(actions), seed

    def fit(self, action: np.ndarray, reward: np.ndarray, segment: Sequence[str], value: np.ndarray) -> "Explorer":
        """Learn from contacts with a known outcome.

        Parameters
        ----------
        action : ndarray of shape (n_contacts,), object
            What was done; ``none`` for nothing.
        reward : ndarray of shape (n_contacts,)
            Margin that stayed less the cost of the contact, in the shop's currency.
        segment : sequence of str
            Risk bands.
        value : ndarray of shape (n_contacts,)
            Worth of the customers, in the shop's currency.
        """
        arms = [*self.actions, NONE]
        known = np.isin(action, arms)
        self.bandit_ = None
        if not known.any() or len(set(action[known])) < 2:
            return self
        self.scale_ = float(np.std(reward[known])) or 1.0
        self.median_ = float(np.median(value[known]))
        bandit = MAB(arms, LearningPolicy.LinTS(alpha=1.0, l2_lambda=1.0), seed=self.seed)
        contexts = _contexts(np.asarray(segment, dtype=object)[known], value[known] > self.median_)
        bandit.fit(list(action[known]), list(reward[known] / self.scale_), contexts)
        self.bandit_ = bandit
        return self

    def chances(self, allowed: np.ndarray, segment: Sequence[str], value: np.ndarray) -> np.ndarray:
        """Tell how likely each action is to be drawn.

        Parameters
        ----------
        allowed : ndarray of shape (n_customers, n_actions), bool
            Which action each customer may get; doing nothing is always allowed.
        segment : sequence of str
            Risk bands.
        value : ndarray of shape (n_customers,)
            Worth of the customers.

        Returns
        -------
        ndarray of shape (n_customers, n_actions + 1)
            Chances of the actions and, last, of doing nothing; rows sum to 1.
        """
        n_arms = len(self.actions) + 1
        if self.bandit_ is None:
            chances = np.full((len(allowed), n_arms), 1 / n_arms)
        else:
            contexts = _contexts(np.asarray(segment, dtype=object), value > self.median_)
            cells, cell = np.unique(contexts, axis=0, return_inverse=True)
            counts = np.zeros((len(cells), n_arms))
            position = {arm: i for i, arm in enumerate([*self.actions, NONE])}
            for i, context in enumerate(cells):
                for arm in self.bandit_.predict(np.repeat(context[None, :], DRAWS, axis=0)):
                    counts[i, position[arm]] += 1
            chances = (counts / DRAWS)[cell.ravel()]
        chances = np.where(
            np.column_stack([allowed, np.ones(len(allowed), bool)]), np.maximum(chances, LEAST_CHANCE), 0
        )
        return chances / chances.sum(axis=1, keepdims=True)

    def draw(
        self, customers: pd.DataFrame, value: np.ndarray, allowed: np.ndarray, chance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw an action for each customer.

        Parameters
        ----------
        customers : DataFrame
            With ``risk_band``.
        value : ndarray of shape (n_customers,)
            Their worth.
        allowed : ndarray of shape (n_customers, n_actions), bool
            Which actions they may get.
        chance : ndarray of shape (n_customers,)
            A number from 0 to 1 that decides.

        Returns
        -------
        ndarray of shape (n_customers,), int64
            Position of the action, -1 for none.
        ndarray of shape (n_customers, n_actions + 1)
            What ``chances`` says.
        """
        odds = self.chances(allowed, customers.risk_band, value)
        drawn = (chance[:, None] >= np.cumsum(odds, axis=1)[:, :-1]).sum(axis=1)
        return np.where(drawn == len(self.actions), -1, drawn), odds


def _contexts(segment: np.ndarray, is_worth_more: np.ndarray) -> np.ndarray:
    """One column per risk band and worth."""
    band = np.array([BANDS.index(name) for name in segment], dtype=int)
    contexts = np.zeros((len(segment), 2 * len(BANDS)))
    contexts[np.arange(len(segment)), 2 * band + is_worth_more] = 1.0
    return contexts
