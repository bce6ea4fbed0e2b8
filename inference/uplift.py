"""What an action changes: the share of customers about to leave whom it keeps, learned from random contacts.

The effect of an action on a customer is the drop of the churn probability that it causes. It is written as
``churn_probability x acceptance``: only who would leave can be kept, as in the literature on the expected maximum
profit of churn campaigns (Verbraken, Verbeke and Baesens 2013). Acceptance comes from the first of these that the
contacts carry:

1. a model of the customer's features, boosted trees as an R-learner (Nie and Wager 2021), where it foretells customers
   whom it did not see better than one acceptance for all, beyond chance;
2. one acceptance per risk band, measured against the holdout and drawn towards that of all, and that to the prior;
3. the prior of the action catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np
import pandas as pd

from inference.gains import paired_gain

#: Fewer contacts, or holdouts, with a known outcome than this measure nothing; and carry no model of features.
LEAST_CONTACTS, LEAST_FOR_MODEL = 100, 2000
#: Standard errors by which a model of features has to be better: chance reaches that once in 20 times.
EARNED = 1.645
#: Groups of customers that are left out in turn, and trees of each model.
GROUPS, ROUNDS = 5, 100
#: Boosted trees of acceptance, whose signal is weak, and of the churn probability.
LEAST_IN_LEAF = 20
TREES = {
    "objective": "regression",
    "num_leaves": 4,
    "learning_rate": 0.045,
    "feature_fraction_bynode": 0.4,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "max_bin": 63,
    "boost_from_average": False,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
FORETELLING = TREES | {"objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "boost_from_average": True}
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Contacts:
    """Contacts whose outcome is known, at random given their propensity.

    Parameters
    ----------
    customer : ndarray of shape (n_contacts,), object
        Whose contact each is.
    action : ndarray of shape (n_contacts,), object
        What was done; ``holdout`` among them.
    campaign : ndarray of shape (n_contacts,), object
        Campaign; actions are compared with the holdouts of the same ones.
    propensity : ndarray of shape (n_contacts,)
        Probability of that action, above 0.
    churned : ndarray of shape (n_contacts,)
        1 if the customer placed no order in the horizon, else 0.
    probability : ndarray of shape (n_contacts,)
        Churn probability before the contact, by what did not see its outcome.
    segment : ndarray of shape (n_contacts,), object
        Risk band of that probability.
    X : DataFrame of shape (n_contacts, n_features)
        The champion's features before the contact.
    day : ndarray of shape (n_contacts,), datetime64
        When.
    """

    customer: np.ndarray
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
            # as far from the mean of all as the prior is uncertain
            near = self.overall_[0], prior[1]
            self.segments_[segment] = self.overall_ if measured is None else _update(near, measured)
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
    """Acceptance as boosted trees of features: an R-learner on what one acceptance for all leaves over.

    The contacts of a share of the customers are left out in turn, and the models of the rest are averaged. What each
    says of those who were left out is an honest prediction; how far the models differ is how uncertain the average is
    (delete-a-group jackknife, Kott 2001).
    """

    def fit(self, contacts: Contacts, treated: np.ndarray) -> "FeatureModel":
        """Learn from contacts with one action and holdouts.

        Parameters
        ----------
        contacts : Contacts
            Of one action, and holdouts.
        treated : ndarray of shape (n_contacts,), bool
            Which of them were contacted.
        """
        weight, left, dose = _centred(contacts, treated)
        self.base_, self.base_variance_ = _weighted_slope(weight, left, dose)
        importance = weight * dose**2
        importance /= importance.mean()
        settings = TREES | {
            "min_data_in_leaf": max(LEAST_IN_LEAF, len(contacts) // 50),
            "lambda_l2": len(contacts) / 100,
        }
        data = lightgbm.Dataset(
            contacts.X.to_numpy(float),
            left / dose - self.base_,
            weight=importance,
            params=settings,
            free_raw_data=False,
        ).construct()
        group = groups(contacts.customer)
        self.boosters_, self.left_out_ = [], np.empty(len(contacts))
        for out in range(GROUPS):
            booster = lightgbm.train(settings, data.subset(np.flatnonzero(group != out)), ROUNDS)
            self.boosters_.append(booster)
            self.left_out_[group == out] = self.base_ + booster.predict(contacts.X.to_numpy(float)[group == out])
        self.gain_ = weight * ((left - dose * self.base_) ** 2 - (left - dose * self.left_out_) ** 2)
        return self

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance of customers."""
        told = np.array([booster.predict(X.to_numpy(float)) for booster in self.boosters_])
        spread = (GROUPS - 1) * told.var(axis=0)
        return self.base_ + told.mean(axis=0), np.sqrt(self.base_variance_ + spread)


def _earned_model(contacts: Contacts, treated: np.ndarray) -> FeatureModel | None:
    """A model of features, if it foretells customers whom it did not see better than one acceptance for all."""
    model = FeatureModel().fit(contacts, treated)
    return model if paired_gain(model.gain_, contacts.customer, EARNED)["low"] > 0 else None


def groups(customer: np.ndarray) -> np.ndarray:
    """Put customers into ``GROUPS`` groups, the same whatever the order of rows; shape (n_rows,)."""
    codes, different = pd.factorize(customer, sort=True)
    return np.random.default_rng(0).permutation(len(different))[codes] % GROUPS


def foretell(X: pd.DataFrame, churned: np.ndarray, customer: np.ndarray) -> np.ndarray:
    """Churn probability of contacts, each by a model that did not see the customer.

    The champion has learned from many of the contacts' own outcomes: what it says of them hides part of what the
    contact changed.

    Parameters
    ----------
    X : DataFrame of shape (n_contacts, n_features)
        Features before the contact.
    churned : ndarray of shape (n_contacts,)
        1 if the customer placed no order in the horizon, else 0.
    customer : ndarray of shape (n_contacts,), object
        Whose contact each is.

    Returns
    -------
    ndarray of shape (n_contacts,)
    """
    settings = FORETELLING | {"min_data_in_leaf": max(LEAST_IN_LEAF, len(X) // 500)}
    data = lightgbm.Dataset(X.to_numpy(float), churned, params=settings, free_raw_data=False).construct()
    group, told = groups(customer), np.empty(len(X))
    for out in range(GROUPS):
        booster = lightgbm.train(settings, data.subset(np.flatnonzero(group != out)), ROUNDS)
        told[group == out] = booster.predict(X.to_numpy(float)[group == out])
    # nobody is certain, and who is said to be would have no acceptance
    return np.clip(told, 0.01, 0.99)


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
