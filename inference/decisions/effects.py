"""Effect of each action on churn, learned from randomised contacts.

The effect of an action on a customer is the drop of the churn probability that it causes, modelled as
``churn_probability x acceptance``: only customers who would leave can be kept, as in the literature on the expected
maximum profit of churn campaigns (Verbraken, Verbeke and Baesens 2013). Acceptance comes from the first of these
sources for which there are enough contacts:

1. ``model``: an R-learner on the customer's features, where its out-of-fold predictions are significantly better than
   one acceptance for all. It is fitted on contacts of any kind and calibrated to the action, since customers who
   respond to one action mostly respond to others; or on this action alone, where that is significantly better;
2. ``segment``: one acceptance per risk band, measured against the holdout and shrunk towards the mean of all bands,
   which is shrunk towards the prior;
3. ``prior``: the prior of the action catalogue.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.decisions.contacts import Contacts
from inference.decisions.r_learner import CalibratedRLearner, Residuals, RLearner
from inference.evaluation.metrics import paired_gain

#: Minimum contacts, and minimum holdouts, with a known outcome to measure an acceptance; to fit a model of features.
MIN_CONTACTS, MIN_CONTACTS_FOR_MODEL = 100, 2000
#: Standard errors by which a model of features has to be better: a one-sided test at 5 %.
SIGNIFICANT = 1.645


@dataclass
class ActionEffect:
    """Effect of one action.

    Attributes
    ----------
    contacts_, holdouts_ : int
        Numbers of contacts and of holdouts compared with them.
    overall_ : tuple of float
        Mean and standard deviation of the acceptance of all customers.
    bands_ : dict of str to tuple of float
        The same by risk band; empty without enough contacts.
    model_ : CalibratedRLearner or None
        Acceptance by features.
    """

    action: str
    #: alpha and beta of the beta distribution of acceptance before any contact.
    prior: tuple[float, float]

    def fit(self, contacts: Contacts, learner: RLearner | None = None) -> "ActionEffect":
        """Learn from the contacts with this action and the holdouts of their campaigns.

        ``contacts`` are all that are known; ``learner`` was fitted on those of any kind, where there are enough.
        """
        own = contacts.with_holdouts_of(self.action)
        self.contacts_, self.holdouts_ = int(own.is_treated.sum()), int((~own.is_treated).sum())
        alpha, beta = self.prior
        prior = alpha / (alpha + beta), np.sqrt(alpha * beta / (alpha + beta + 1)) / (alpha + beta)
        self.overall_: tuple[float, float] = prior
        self.bands_: dict[str, tuple[float, float]] = {}
        self.model_: CalibratedRLearner | None = None
        if min(self.contacts_, self.holdouts_) < MIN_CONTACTS:
            return self
        self.overall_ = _posterior(prior, _measured(own))
        for band in np.unique(own.band):
            inside = own.take(own.band == band)
            self.bands_[band] = self.overall_
            if min(inside.is_treated.sum(), (~inside.is_treated).sum()) >= MIN_CONTACTS:
                # a band's acceptance may differ from the mean of all bands as much as the prior is uncertain
                self.bands_[band] = _posterior((self.overall_[0], prior[1]), _measured(inside))
        if learner is not None and min(self.contacts_, self.holdouts_) >= MIN_CONTACTS_FOR_MODEL:
            self.model_ = _select_model(own, learner)
        return self

    @property
    def source(self) -> str:
        """Where acceptance comes from: ``model``, ``segment`` or ``prior``."""
        return "model" if self.model_ else "segment" if self.bands_ else "prior"

    def acceptance(self, X: pd.DataFrame, band: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the posterior of the acceptance, shape (n_customers,) each.

        ``X`` are the customers' features and ``band`` their risk bands. A mean below 0 drives customers away.
        """
        if self.model_:
            return self.model_.predict(X)
        known = np.array([self.bands_.get(name, self.overall_) for name in band], dtype=float).reshape(-1, 2)
        return known[:, 0], known[:, 1]

    def describe(self) -> str:
        """Acceptance with its 95 % interval and number of contacts, in words."""
        mean, deviation = self.overall_
        span = f"{mean:.1%} of those about to leave ({mean - 1.96 * deviation:.1%} to {mean + 1.96 * deviation:.1%})"
        if self.source == "prior":
            return f"{self.action} is assumed to keep {span}; {self.contacts_:,} contacts so far"
        return f"{self.action} keeps {span}, by {self.contacts_:,} contacts and {self.holdouts_:,} held out"


def fit_effects(catalogue: pd.DataFrame, contacts: Contacts) -> Mapping[str, ActionEffect]:
    """Learn the effect of every action of the catalogue from all contacts, by action."""
    tried = contacts.with_holdouts_of(*catalogue.action)
    is_enough = min(tried.is_treated.sum(), (~tried.is_treated).sum()) >= MIN_CONTACTS_FOR_MODEL
    learner = RLearner().fit(tried) if is_enough else None
    return {
        row.action: ActionEffect(row.action, (row.prior_alpha, row.prior_beta)).fit(contacts, learner)
        for row in catalogue.itertuples(index=False)
    }


def _select_model(contacts: Contacts, learner: RLearner) -> CalibratedRLearner | None:
    """The learner of all actions or of this one, the latter only where significantly better; None where neither is."""
    model = CalibratedRLearner(learner, contacts)
    own = CalibratedRLearner(RLearner().fit(contacts), contacts)
    if paired_gain(own.gain_ - model.gain_, contacts.customer, SIGNIFICANT)["low"] > 0:
        model = own
    return model if paired_gain(model.gain_, contacts.customer, SIGNIFICANT)["low"] > 0 else None


def _measured(contacts: Contacts) -> tuple[float, float]:
    """Measured acceptance of all contacts and its standard error."""
    coefficients, covariance = Residuals.of(contacts).fit_acceptance()
    return float(coefficients[0]), float(np.sqrt(covariance[0, 0]))


def _posterior(prior: tuple[float, float], measured: tuple[float, float]) -> tuple[float, float]:
    """Mean and deviation of the posterior of a normal prior and a normal measurement, weighted by precision."""
    precisions = np.array([1 / prior[1] ** 2, 1 / max(measured[1], 1e-9) ** 2])
    mean = precisions @ [prior[0], measured[0]] / precisions.sum()
    return float(mean), float(1 / np.sqrt(precisions.sum()))
