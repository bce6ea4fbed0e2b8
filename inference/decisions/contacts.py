"""Past contacts with known outcomes, from which the effects of actions are learned."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Action of a customer who was left out deliberately, and of one for whom no action was chosen.
HOLDOUT, NONE = "holdout", "none"


@dataclass(frozen=True)
class Contacts:
    """Randomised contacts with known outcomes, arrays of shape (n_contacts,)."""

    customer: np.ndarray
    #: Treatment; ``holdout`` for the control group.
    action: np.ndarray
    #: Campaign ids; an action is compared with the holdouts of its own campaigns.
    campaign: np.ndarray
    #: Probability of the treatment that was assigned, above 0.
    propensity: np.ndarray
    #: 1 if the customer placed no order in the horizon, else 0.
    churned: np.ndarray
    #: Churn probability before the contact, by a model that did not see the outcome; and its risk band.
    probability: np.ndarray
    band: np.ndarray
    #: The champion's features before the contact, with ``touch_id`` as the index.
    X: pd.DataFrame
    #: Date of the contact, datetime64.
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

    def take(self, mask: np.ndarray) -> "Contacts":
        """Select contacts by a mask."""
        return Contacts(**{name: values[mask] for name, values in vars(self).items()})

    def with_holdouts_of(self, *actions: str) -> "Contacts":
        """Select the contacts with these actions, and the holdouts of the same campaigns."""
        has_action = np.isin(self.action, actions)
        compared = np.intersect1d(self.campaign[has_action], self.campaign[~self.is_treated])
        return self.take((has_action | ~self.is_treated) & np.isin(self.campaign, compared))
