"""Past contacts with known outcomes, from which the effects of actions are learned."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Action of a customer who was left out deliberately, and of one for whom no action was chosen.
HOLDOUT, NONE = "holdout", "none"


@dataclass(frozen=True)
class Contacts:
    """Randomised contacts with known outcomes, as arrays.

    Parameters
    ----------
    customer : ndarray of shape (n_contacts,), object
        Customer ids.
    action : ndarray of shape (n_contacts,), object
        Treatment; ``holdout`` for the control group.
    campaign : ndarray of shape (n_contacts,), object
        Campaign ids; an action is compared with the holdouts of its own campaigns.
    propensity : ndarray of shape (n_contacts,)
        Probability of the treatment that was assigned, above 0.
    churned : ndarray of shape (n_contacts,)
        1 if the customer placed no order in the horizon, else 0.
    probability : ndarray of shape (n_contacts,)
        Churn probability before the contact, by a model that did not see the outcome.
    band : ndarray of shape (n_contacts,), object
        Risk band of that probability.
    X : DataFrame of shape (n_contacts, n_features)
        The champion's features before the contact, with ``touch_id`` as the index.
    day : ndarray of shape (n_contacts,), datetime64
        Date of the contact.
    """

    customer: np.ndarray
    action: np.ndarray
    campaign: np.ndarray
    propensity: np.ndarray
    churned: np.ndarray
    probability: np.ndarray
    band: np.ndarray
    X: pd.DataFrame
    day: np.ndarray

    def __len__(self) -> int:
        return len(self.action)

    @property
    def is_treated(self) -> np.ndarray:
        """Which contacts are not holdouts, shape (n_contacts,), bool."""
        return self.action != HOLDOUT

    @property
    def done(self) -> np.ndarray:
        """Action of each contact, ``none`` for a holdout; shape (n_contacts,), object."""
        return np.where(self.is_treated, self.action, NONE)

    def take(self, rows: np.ndarray) -> "Contacts":
        """Select contacts by mask or positions."""
        arrays = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "X"}
        return Contacts(**arrays, X=self.X.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows])

    def with_holdouts_of(self, *actions: str) -> "Contacts":
        """Select the contacts with these actions, and the holdouts of the same campaigns."""
        has_action = np.isin(self.action, actions)
        compared = np.intersect1d(self.campaign[has_action], self.campaign[~self.is_treated])
        return self.take((has_action | ~self.is_treated) & np.isin(self.campaign, compared))
