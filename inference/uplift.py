"""What an action changes: the share of customers about to leave whom it keeps, learned from random contacts.

The effect of an action on a customer is the drop of the churn probability that it causes. It is written as
``churn_probability x acceptance``: only who would leave can be kept, as in the literature on the expected maximum
profit of churn campaigns (Verbraken, Verbeke and Baesens 2013). Acceptance comes from the first of these that the
contacts carry:

1. a model of the customer's features, a linear R-learner (Nie and Wager 2021), where it foretells later contacts better
   than one acceptance for all beyond chance;
2. one acceptance per risk band, measured against the holdout and drawn towards the prior;
3. the prior of the action catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import Pipeline

from inference.members import standardiser

#: Fewer contacts, or holdouts, with a known outcome than this measure nothing; and carry no model of features.
LEAST_CONTACTS, LEAST_FOR_MODEL = 100, 2000
#: Share of the contacts, the newest, on which a model of features has to earn its place, and how surely.
LATER_SHARE, EARNED = 0.3, norm.ppf(0.95)
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Contacts:
    """Contacts whose outcome is known, at random given their propensity.

    Parameters
    ----------
    action : ndarray of shape (n_contacts,), object
        What was done; ``holdout`` among them.
    campaign : ndarray of shape (n_contacts,), object
        Campaign; actions are compared with the holdouts of the same ones.
    propensity : ndarray of shape (n_contacts,)
        Probability of that action, above 0.
    churned : ndarray of shape (n_contacts,)
        1 if the customer placed no order in the horizon, else 0.
    probability : ndarray of shape (n_contacts,)
        Churn probability as scored before the contact.
    segment : ndarray of shape (n_contacts,), object
        Risk band of that probability.
    X : DataFrame of shape (n_contacts, n_features)
        The champion's features before the contact.
    day : ndarray of shape (n_contacts,), datetime64
        When.
    """

    action: np.ndarray
    campaign: np.ndarray
    propensity: np.ndarray
    churned: np.ndarray
    probability: np.ndarray
    segment: np.ndarray
    X: pd.DataFrame
    day: np.ndarray

    def __len__(self) -> int:
        return len(self.action)

    def take(self, rows: np.ndarray) -> "Contacts":
        """Keep some contacts, by mask or positions."""
        own = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "X"}
        return Contacts(**own, X=self.X.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows])

    def with_holdouts_of(self, action: str) -> "Contacts":
        """Contacts with one action, and the holdouts of its campaigns."""
        compared = np.intersect1d(self.campaign[self.action == action], self.campaign[self.action == HOLDOUT])
        return self.take(np.isin(self.action, [action, HOLDOUT]) & np.isin(self.campaign, compared))


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of one action by customers.

    Parameters
    ----------
    mean, deviation : ndarray of shape (n_customers,)
        Of the posterior distribution; a share, below 0 where the action drives customers away.
    source : str
        ``model``, ``segment`` or ``prior``.
    """

    mean: np.ndarray
    deviation: np.ndarray
    source: str


@dataclass
class ActionEffect:
    """What one action does.

    Parameters
    ----------
    action : str
        Its name.
    prior : tuple of float
        alpha and beta of the beta distribution that is assumed where nothing is measured.
    """

    action: str
    prior: tuple[float, float]

    def fit(self, contacts: Contacts) -> "ActionEffect":
        """Learn from contacts with this action and holdouts; others are not looked at.

        Parameters
        ----------
        contacts : Contacts
            All that are known.
        """
        own = contacts.with_holdouts_of(self.action)
        treated = own.action == self.action
        self.contacts_, self.holdouts_ = int(treated.sum()), int((~treated).sum())
        alpha, beta = self.prior
        prior = alpha / (alpha + beta), np.sqrt(alpha * beta / (alpha + beta + 1)) / (alpha + beta)
        self.overall_, self.segments_, self.model_ = prior, {}, None
        if min(self.contacts_, self.holdouts_) < LEAST_CONTACTS:
            return self
        self.overall_ = _update(prior, _acceptance(own, treated))
        for segment in np.unique(own.segment):
            inside = own.segment == segment
            enough = min((treated & inside).sum(), (~treated & inside).sum()) >= LEAST_CONTACTS
            measured = _acceptance(own.take(inside), treated[inside]) if enough else None
            self.segments_[segment] = self.overall_ if measured is None else _update(prior, measured)
        if min(self.contacts_, self.holdouts_) >= LEAST_FOR_MODEL:
            self.model_ = _earned_model(own, treated)
        return self

    @property
    def source(self) -> str:
        """Where acceptance comes from: ``model``, ``segment`` or ``prior``."""
        return "model" if self.model_ else "segment" if self.segments_ else "prior"

    def acceptance(self, X: pd.DataFrame, segment: Sequence[str]) -> Acceptance:
        """Tell the acceptance of customers.

        Parameters
        ----------
        X : DataFrame of shape (n_customers, n_features)
            The champion's features.
        segment : sequence of str
            Their risk bands.
        """
        if self.model_:
            return Acceptance(*self.model_.predict(X), "model")
        known = [self.segments_.get(name, self.overall_) for name in segment]
        return Acceptance(*np.array(known, dtype=float).reshape(-1, 2).T, self.source)

    def tell(self) -> str:
        """Say in words what is known."""
        mean, deviation = self.overall_
        span = f"{mean:.1%} of those about to leave ({mean - 1.96 * deviation:.1%} to {mean + 1.96 * deviation:.1%})"
        if self.source == "prior":
            return f"{self.action} is assumed to keep {span}; {self.contacts_:,} contacts so far"
        return f"{self.action} keeps {span}, by {self.contacts_:,} contacts and {self.holdouts_:,} held out"


class FeatureModel:
    """Acceptance as a linear function of features: an R-learner on what one acceptance for all leaves over."""

    def fit(self, contacts: Contacts, treated: np.ndarray) -> "FeatureModel":
        """Learn from contacts with one action and holdouts.

        Parameters
        ----------
        contacts : Contacts
            Of one action, and holdouts.
        treated : ndarray of shape (n_contacts,), bool
            Which of them were contacted.
        """
        self.prepare_ = Pipeline(standardiser())
        with np.errstate(invalid="ignore"):  # the mean of a column that is never known
            Z = self.prepare_.fit_transform(contacts.X.to_numpy())
        weight, left, dose = _centred(contacts, treated)
        self.base_, self.base_variance_ = _weighted_slope(weight, left, dose)
        self.ridge_ = BayesianRidge(fit_intercept=False).fit(
            dose[:, None] * Z, left - dose * self.base_, sample_weight=weight
        )
        return self

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance of customers."""
        Z = self.prepare_.transform(X.to_numpy())
        spread = np.einsum("ij,jk,ik->i", Z, self.ridge_.sigma_, Z)
        return self.base_ + Z @ self.ridge_.coef_, np.sqrt(self.base_variance_ + np.maximum(spread, 0))


def _earned_model(contacts: Contacts, treated: np.ndarray) -> FeatureModel | None:
    """A model of features, if it foretold the newest contacts better than one acceptance for all, beyond chance."""
    order = np.argsort(contacts.day, kind="stable")
    first = int(len(order) * (1 - LATER_SHARE))
    # contacts of one day stay together
    is_later = contacts.day >= contacts.day[order[first]]
    if min(treated[~is_later].sum(), (~treated[~is_later]).sum(), is_later.sum()) < LEAST_CONTACTS:
        return None
    earlier, later = contacts.take(~is_later), contacts.take(is_later)
    model = FeatureModel().fit(earlier, treated[~is_later])
    weight, left, dose = _centred(later, treated[is_later])
    mean, _ = model.predict(later.X)
    gain = weight * ((left - dose * model.base_) ** 2 - (left - dose * mean) ** 2)
    if gain.mean() <= EARNED * gain.std(ddof=1) / np.sqrt(len(gain)):
        return None
    return FeatureModel().fit(contacts, treated)


def _centred(contacts: Contacts, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, what the score and a line through it leave of the outcome, and how much of the action was given.

    The last is the treatment less its mean, times the churn probability; minus it times acceptance is the effect on
    the outcome (Robinson 1988).
    """
    weight = 1 / contacts.propensity
    weight = weight / weight.mean()
    share = np.average(treated, weights=weight)
    line = np.column_stack([np.ones(len(contacts)), contacts.probability])
    root = np.sqrt(weight)
    fitted, *_ = np.linalg.lstsq(line * root[:, None], contacts.churned * root, rcond=None)
    return weight, contacts.churned - line @ fitted, -(treated - share) * contacts.probability


def _weighted_slope(weight: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Slope of a weighted regression through the origin, and its variance whatever the errors' (White 1980)."""
    total = np.sum(weight * x**2)
    slope = np.sum(weight * x * y) / total
    return float(slope), float(np.sum((weight * x * (y - slope * x)) ** 2) / total**2)


def _acceptance(contacts: Contacts, treated: np.ndarray) -> tuple[float, float]:
    """Measured acceptance and its standard deviation."""
    slope, variance = _weighted_slope(*_centred(contacts, treated))
    return slope, float(np.sqrt(variance))


def _update(prior: tuple[float, float], measured: tuple[float, float]) -> tuple[float, float]:
    """Posterior mean and deviation of a normal prior and a normal measurement: each by its precision."""
    precisions = np.array([1 / prior[1] ** 2, 1 / max(measured[1], 1e-9) ** 2])
    return (
        float(precisions @ [prior[0], measured[0]] / precisions.sum()),
        float(1 / np.sqrt(precisions.sum())),
    )


def fit_effects(catalogue: pd.DataFrame, contacts: Contacts) -> Mapping[str, ActionEffect]:
    """Learn what every action of the catalogue does.

    Parameters
    ----------
    catalogue : DataFrame
        The seed ``retention_actions_catalogue``.
    contacts : Contacts
        What was tried so far.

    Returns
    -------
    dict
        By action.
    """
    rows = catalogue.itertuples(index=False)
    return {row.action: ActionEffect(row.action, (row.prior_alpha, row.prior_beta)).fit(contacts) for row in rows}
