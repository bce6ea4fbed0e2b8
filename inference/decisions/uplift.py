"""What an action changes: the share of customers about to leave whom it keeps, learned from random contacts.

The effect of an action on a customer is the drop of the churn probability that it causes. It is written as
``churn_probability x acceptance``: only who would leave can be kept, as in the literature on the expected maximum
profit of churn campaigns (Verbraken, Verbeke and Baesens 2013). Acceptance comes from the first of these that the
contacts carry:

1. a model of the customer's features, where it foretells customers whom it did not see better than one acceptance for
   all, beyond chance: boosted trees as an R-learner (Nie and Wager 2021), of contacts of any kind, since who responds
   to one mostly responds to another, scaled to each action; or of the action alone, where that is better;
2. one acceptance per risk band, measured against the holdout and drawn towards that of all, and that to the prior;
3. the prior of the action catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import joblib
import lightgbm
import numpy as np
import pandas as pd

from inference.evaluation.paired_gain import paired_gain
from inference.home import EFFECTS, home

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
#: Fits that are kept: those of a few weeks.
KEPT_FITS = 50


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

    def with_holdouts_of(self, *actions: str) -> "Contacts":
        """Contacts with these actions, and the holdouts of their campaigns."""
        done = np.isin(self.action, actions)
        compared = np.intersect1d(self.campaign[done], self.campaign[self.action == HOLDOUT])
        return self.take((done | (self.action == HOLDOUT)) & np.isin(self.campaign, compared))


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

    def fit(self, contacts: Contacts, response: "Response | None" = None) -> "ActionEffect":
        """Learn from contacts with this action and holdouts; others are not looked at.

        Parameters
        ----------
        contacts : Contacts
            All that are known.
        response : Response, optional
            How customers respond to contacts of any kind, where that was learned.
        """
        own = contacts.with_holdouts_of(self.action)
        treated = own.action == self.action
        self.contacts_, self.holdouts_ = int(treated.sum()), int((~treated).sum())
        alpha, beta = self.prior
        prior = alpha / (alpha + beta), np.sqrt(alpha * beta / (alpha + beta + 1)) / (alpha + beta)
        self.overall_, self.segments_, self.model_ = prior, {}, None
        if min(self.contacts_, self.holdouts_) < LEAST_CONTACTS:
            return self
        self.overall_ = _update(prior, _acceptance(own))
        for segment in np.unique(own.segment):
            inside = own.segment == segment
            enough = min((treated & inside).sum(), (~treated & inside).sum()) >= LEAST_CONTACTS
            measured = _acceptance(own.take(inside)) if enough else None
            # as far from the mean of all as the prior is uncertain
            near = self.overall_[0], prior[1]
            self.segments_[segment] = self.overall_ if measured is None else _update(near, measured)
        if response is not None and min(self.contacts_, self.holdouts_) >= LEAST_FOR_MODEL:
            self.model_ = _earned_model(own, response)
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


class Response:
    """How customers respond to contacts, as boosted trees of features: an R-learner.

    The contacts of a share of the customers are left out in turn, and the models of the rest are averaged. What each
    says of those who were left out is an honest prediction; how far the models differ is how uncertain the average is
    (delete-a-group jackknife, Kott 2001).
    """

    def fit(self, contacts: Contacts) -> "Response":
        """Learn from contacts of any kind, and holdouts.

        Parameters
        ----------
        contacts : Contacts
            What was tried, and holdouts of the same campaigns.
        """
        weight, left, dose = _centred(contacts)
        base, _ = _slopes(weight, left, dose[:, None])
        importance = weight * dose**2
        X = contacts.X.to_numpy(float)
        settings = TREES | {"min_data_in_leaf": max(LEAST_IN_LEAF, len(X) // 50), "lambda_l2": len(X) / 100}
        trees, told = kept_trees(
            settings, X, left / dose - base[0], groups(contacts.customer), importance / importance.mean()
        )
        self.base_, self.boosters_ = base[0], [lightgbm.Booster(model_str=text) for text in trees]
        self.left_out_ = pd.Series(base[0] + told, index=contacts.X.index)
        return self

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance of customers."""
        told = np.array([booster.predict(X.to_numpy(float)) for booster in self.boosters_])
        return self.base_ + told.mean(axis=0), np.sqrt((GROUPS - 1) * told.var(axis=0))


class ScaledResponse:
    """Acceptance of one action: a line in how customers respond.

    Parameters
    ----------
    response : Response
        To contacts of any kind, or to this action.
    contacts : Contacts
        With the action, and holdouts; among those that the response was learned from.

    Attributes
    ----------
    gain_ : ndarray of shape (n_contacts,)
        By how much it foretells each contact better than one acceptance for all: the drop of the squared error, of
        customers whom the response was not learned from.
    """

    def __init__(self, response: Response, contacts: Contacts) -> None:
        self.response = response
        weight, left, dose = _centred(contacts)
        told = response.left_out_.loc[contacts.X.index].to_numpy()
        self.line_, self.covariance_ = _slopes(weight, left, dose[:, None] * _with_one(told))
        base, _ = _slopes(weight, left, dose[:, None])
        self.gain_ = weight * ((left - dose * base[0]) ** 2 - (left - dose * (_with_one(told) @ self.line_)) ** 2)

    def predict(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the acceptance of customers."""
        told, spread = self.response.predict(X)
        known = _with_one(told)
        variance = np.einsum("ij,jk,ik->i", known, self.covariance_, known) + (self.line_[1] * spread) ** 2
        return known @ self.line_, np.sqrt(variance)


def _earned_model(contacts: Contacts, response: Response) -> ScaledResponse | None:
    """A model of features, if it foretells customers whom it did not see better than one acceptance for all.

    The action's own response is taken where it foretells them better than the response to contacts of any kind.
    """
    model, own = ScaledResponse(response, contacts), ScaledResponse(Response().fit(contacts), contacts)
    if paired_gain(own.gain_ - model.gain_, contacts.customer, EARNED)["low"] > 0:
        model = own
    return model if paired_gain(model.gain_, contacts.customer, EARNED)["low"] > 0 else None


def _with_one(told: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(told)), told])


def groups(customer: np.ndarray) -> np.ndarray:
    """Put customers into ``GROUPS`` groups, the same whatever the order of rows; shape (n_rows,)."""
    codes, different = pd.factorize(customer, sort=True)
    return np.random.default_rng(0).permutation(len(different))[codes] % GROUPS


def foretell(X: pd.DataFrame, churned: np.ndarray, customer: np.ndarray) -> np.ndarray:
    """Churn probability of contacts, each by a model that did not see the customer.

    The champion has learned from many of the contacts' own outcomes: what it says of them may hide part of what the
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
    _, told = kept_trees(settings, X.to_numpy(float), churned, groups(customer))
    # nobody is certain, and who is said to be would have no acceptance
    return np.clip(told, 0.01, 0.99)


def left_out_trees(
    settings: dict, X: np.ndarray, y: np.ndarray, group: np.ndarray, weight: np.ndarray | None = None
) -> tuple[list[str], np.ndarray]:
    """Boost trees of the rows of all groups but one, for each in turn.

    Parameters
    ----------
    settings : dict
        Of LightGBM.
    X : ndarray of shape (n_rows, n_features)
        Features.
    y : ndarray of shape (n_rows,)
        What is foretold.
    group : ndarray of shape (n_rows,)
        From 0 to ``GROUPS`` - 1.
    weight : ndarray of shape (n_rows,), optional
        Weights of the rows.

    Returns
    -------
    list of str
        Each group's model, which learned from the others, as LightGBM writes it.
    ndarray of shape (n_rows,)
        What is foretold of each row by the model that did not see it.
    """
    data = lightgbm.Dataset(X, y, weight=weight, params=settings, free_raw_data=False).construct()
    trees, told = [], np.empty(len(X))
    for out in range(GROUPS):
        booster = lightgbm.train(settings, data.subset(np.flatnonzero(group != out)), ROUNDS)
        trees.append(booster.model_to_string())
        told[group == out] = booster.predict(X[group == out])
    return trees, told


def kept_trees(*arguments) -> tuple[list[str], np.ndarray]:
    """Answer as ``left_out_trees`` does; what it answered to the very same rows is kept in ``CHURN_HOME/effects``."""
    memory = joblib.Memory(home() / EFFECTS, verbose=0)
    known = memory.cache(left_out_trees)(*arguments)
    memory.reduce_size(items_limit=KEPT_FITS)
    return known


def _centred(contacts: Contacts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, what the score and a line through it leave of the outcome, and how much was done.

    The last is the treatment less its mean, times the churn probability; minus it times acceptance is the effect on
    the outcome (Robinson 1988).
    """
    treated = contacts.action != HOLDOUT
    weight = 1 / contacts.propensity
    weight = weight / weight.mean()
    share = np.average(treated, weights=weight)
    line = np.column_stack([np.ones(len(contacts)), contacts.probability])
    root = np.sqrt(weight)
    fitted, *_ = np.linalg.lstsq(line * root[:, None], contacts.churned * root, rcond=None)
    return weight, contacts.churned - line @ fitted, -(treated - share) * contacts.probability


def _slopes(weight: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of a weighted regression through the origin, and their covariance whatever the errors' (White 1980)."""
    bread = np.linalg.pinv(x.T @ (weight[:, None] * x))
    slopes = bread @ (x.T @ (weight * y))
    scores = (weight * (y - x @ slopes))[:, None] * x
    return slopes, bread @ (scores.T @ scores) @ bread


def _acceptance(contacts: Contacts) -> tuple[float, float]:
    """Measured acceptance and its standard deviation."""
    weight, left, dose = _centred(contacts)
    slopes, covariance = _slopes(weight, left, dose[:, None])
    return float(slopes[0]), float(np.sqrt(covariance[0, 0]))


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
    tried = contacts.with_holdouts_of(*catalogue.action)
    treated = tried.action != HOLDOUT
    enough = min(treated.sum(), (~treated).sum()) >= LEAST_FOR_MODEL
    response = Response().fit(tried) if enough else None
    rows = catalogue.itertuples(index=False)
    return {
        row.action: ActionEffect(row.action, (row.prior_alpha, row.prior_beta)).fit(contacts, response) for row in rows
    }
