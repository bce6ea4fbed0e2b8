"""From scores and past contacts to decisions: what the dbt model ``retention_choices`` calls."""

from dataclasses import fields
from datetime import date
from threading import Lock

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object
from scipy.special import expit

from inference.decisions.bandit import NONE, Explorer
from inference.decisions.choose import COLUMNS, DecisionSettings, appraise, choose, costs
from inference.decisions.uplift import HOLDOUT, LEAST_CONTACTS, ActionEffect, Contacts, fit_effects, foretell
from inference.evaluation.off_policy import policy_value
from inference.evaluation.qini import auuc, qini_coefficient
from inference.feature_store import client as feature_store
from inference.home import home
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.scoring.score import BANDS

#: Columns of retention_policy_estimates, and what they hold.
POLICY_COLUMNS = {
    "policy": "string",
    "customers": "int64",
    "matches": "int64",
    "effective": "float64",
    "value": "float64",
    "gain": "float64",
    "gain_low": "float64",
    "gain_high": "float64",
    "qini": "float64",
    "auuc": "float64",
    "through_date": "datetime64[us]",
}
#: How well customers are ranked by what a contact changes.
RANKINGS = {"qini": qini_coefficient, "auuc": auuc}
#: What ``known_contacts`` answered last: one build asks twice, at the same time.
_last: tuple[tuple, tuple[Contacts, np.ndarray]] | None = None
_asked = Lock()
#: Share of the contacts, the newest, that policies are valued on.
LATER_SHARE = 0.3


def decide(scores: pd.DataFrame, outcomes: pd.DataFrame, catalogue: pd.DataFrame, variables: dict) -> pd.DataFrame:
    """Decide about every customer of the newest scores.

    Parameters
    ----------
    scores : DataFrame
        ``churn_scores`` of the newest as-of date, by one model version.
    outcomes : DataFrame
        ``int_contact_outcomes``.
    catalogue : DataFrame
        The seed ``retention_actions_catalogue``.
    variables : dict
        The dbt vars of ``DecisionSettings`` by their names there, and ``bands``: the lowest probability of the risk
        bands medium, high and critical.

    Returns
    -------
    DataFrame
        The table ``retention_choices``.
    """
    if scores.empty:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    settings = DecisionSettings(**{f.name: variables[f.name] for f in fields(DecisionSettings)})
    current = registry.load(scores.model_version.iloc[0])
    scores = scores.sort_values("customer_id", ignore_index=True)
    features = feature_store.snapshot_features(scores[["customer_id", "as_of_date"]])
    known = learned_from(outcomes, scores.as_of_date.iloc[0])
    contacts, spend = known_contacts(current, known, variables["bands"])
    value = settings.value(spend)
    explorer = Explorer(catalogue.action.to_list())
    explorer.fit(_done(contacts), rewards(contacts, outcomes, value), contacts.segment, value)
    named = scores.merge(
        features[[name for name in features if name == "customer_id" or name not in scores]],
        on="customer_id",
        validate="one_to_one",
    ).drop(columns=["text_embedding"], errors="ignore")
    X = current.model.matrix(features)
    return choose(named, X, catalogue, fit_effects(catalogue, contacts), outcomes, explorer, settings)


def value_policies(
    newest: tuple[str, date] | None, outcomes: pd.DataFrame, catalogue: pd.DataFrame, variables: dict
) -> pd.DataFrame:
    """Estimate what policies would have earned on the newest contacts, by what was learned from those before.

    Parameters
    ----------
    newest : tuple of str and date, or None
        The champion's version and the newest as-of date; None where nobody was scored.
    outcomes, catalogue, variables
        As of ``decide``.

    Returns
    -------
    DataFrame
        The table ``retention_policy_estimates``: ``chosen`` (what earns most, without a budget), each action for
        everybody, and ``none``; compared with ``none``. Empty where too little is known.
    """
    told, settings = [], DecisionSettings(**{f.name: variables[f.name] for f in fields(DecisionSettings)})
    known = outcomes[:0] if newest is None else learned_from(outcomes, newest[1])
    days = np.sort(pd.to_datetime(known.touched_at).dt.floor("D").to_numpy())
    if len(np.unique(days)) > 1:
        contacts, spend = known_contacts(registry.load(newest[0]), known, variables["bands"])
        # contacts of one day stay together
        is_later = contacts.day > days[int(len(days) * (1 - LATER_SHARE))]
        later, value = contacts.take(is_later), settings.value(spend)[is_later]
        effects, cost = fit_effects(catalogue, contacts.take(~is_later)), costs(catalogue, outcomes)
        worth = appraise(effects, later.X, later.segment, later.probability * value, cost)
        profit = np.column_stack([np.where(worth.proven, worth.profit, -np.inf), np.zeros(len(later))])
        named = np.array([*catalogue.action, NONE], dtype=object)
        policies = {"chosen": named[profit.argmax(axis=1)]} | {a: np.full(len(later), a, object) for a in named}
        done, reward = _done(later), rewards(later, outcomes, value)
        for policy, chosen in policies.items() if len(later) else ():
            found = policy_value(done, later.propensity, reward, chosen, policies[NONE])
            own = {"policy": policy, "customers": len(later), "through_date": later.day.max()}
            told.append(own | vars(found) | _ranking(effects.get(policy), later))
    return pd.DataFrame(told, columns=list(POLICY_COLUMNS)).astype(POLICY_COLUMNS)


def _ranking(effect: ActionEffect | None, contacts: Contacts) -> dict[str, float]:
    """Qini coefficient and AUUC of the predicted effect of an action; nothing where it was not compared."""
    own = contacts.with_holdouts_of(effect.action) if effect else contacts.take(np.zeros(len(contacts), bool))
    treated = own.action != HOLDOUT
    if not 0 < treated.sum() < len(own):
        return {}
    uplift = own.probability * effect.acceptance(own.X, own.segment).mean
    chance = np.where(treated, own.propensity, 1 - own.propensity)
    return {name: measure(uplift, treated, own.churned, chance) for name, measure in RANKINGS.items()}


def rewards(contacts: Contacts, outcomes: pd.DataFrame, value: np.ndarray) -> np.ndarray:
    """What came of contacts, in the shop's currency: the worth of a customer who stayed, less what it cost.

    Parameters
    ----------
    contacts : Contacts
        As ``known_contacts`` picks them.
    outcomes : DataFrame
        ``int_contact_outcomes``.
    value : ndarray of shape (n_contacts,)
        Worth of the customers.
    """
    cost = outcomes.set_index("touch_id").cost.reindex(contacts.X.index).fillna(0.0).to_numpy()
    return value * (1 - contacts.churned) - np.where(contacts.action == HOLDOUT, 0.0, cost)


def learned_from(outcomes: pd.DataFrame, as_of_date: date) -> pd.DataFrame:
    """Contacts that effects are learned from, the newest last; what was certain was no experiment.

    Their outcome was known on the Monday before: through a week nothing else is learned, so what was learned is kept
    (``uplift.kept_trees``).

    Parameters
    ----------
    outcomes : DataFrame
        ``int_contact_outcomes``.
    as_of_date : date
        The newest.
    """
    monday = pd.Timestamp(as_of_date).to_period("W").start_time
    random = outcomes.propensity.between(0, 1, inclusive="neither")
    known = outcomes.churned.notna() & (pd.to_datetime(outcomes.window_ends_on) <= monday)
    return outcomes[outcomes.is_active & known & random & outcomes.as_of_date.notna()].sort_values(
        ["touched_at", "touch_id"]
    )


def _done(contacts: Contacts) -> np.ndarray:
    return np.where(contacts.action == HOLDOUT, NONE, contacts.action)


def known_contacts(current: RegisteredModel, known: pd.DataFrame, bands: list[float]) -> tuple[Contacts, np.ndarray]:
    """Tell of contacts what effects are learned from, with what the champion says of their customers before.

    Parameters
    ----------
    current : RegisteredModel
        The champion.
    known : DataFrame
        Rows of ``int_contact_outcomes``, as ``learned_from`` picks them.
    bands : list of float
        Lowest probability of the risk bands medium, high and critical.

    Returns
    -------
    Contacts
        With ``touch_id`` as the index of ``X``.
    ndarray of shape (n_contacts,)
        What each customer was expected to spend in the horizon, if they ordered.
    """
    global _last
    key = str(home()), current.version, bands, hash_pandas_object(known, index=False).sum()
    with _asked:
        if _last is None or _last[0] != key:
            _last = key, _appraised(current, known, bands)
        return _last[1]


def _appraised(current: RegisteredModel, known: pd.DataFrame, bands: list[float]) -> tuple[Contacts, np.ndarray]:
    X, customer, churned = _features(current, known), known.customer_id.to_numpy(object), known.churned.to_numpy(float)
    if len(X) >= LEAST_CONTACTS and 0 < churned.mean() < 1:
        probability = foretell(X, churned, customer)
    else:
        probability = expit(tabular_logit(current, X)) if len(X) else np.empty(0)
    return (
        Contacts(
            customer=customer,
            action=known.action.to_numpy(object),
            campaign=known.campaign_id.fillna("").to_numpy(object),
            propensity=known.propensity.to_numpy(float),
            churned=churned,
            probability=probability,
            segment=np.array(BANDS, dtype=object)[np.searchsorted(bands, probability, side="right")],
            X=X,
            day=known.touched_at.to_numpy("datetime64[D]"),
        ),
        current.model.spend.predict(X) if len(X) else np.empty(0),
    )


def _features(current: RegisteredModel, known: pd.DataFrame) -> pd.DataFrame:
    """The champion's features of contacts, by ``touch_id``."""
    if known.empty:
        return pd.DataFrame(columns=current.model.features, dtype=float)
    keys = known[["customer_id", "as_of_date"]].assign(as_of_date=pd.to_datetime(known.as_of_date))
    features = feature_store.snapshot_features(keys.drop_duplicates())
    joined = keys.merge(features, on=["customer_id", "as_of_date"], how="left", validate="many_to_one")
    # since the snapshot the customer may have ordered, or stayed away for some days more
    joined["days_since_last_order"] = known.days_since_last_order.to_numpy(float)
    return current.model.matrix(joined).set_axis(known.touch_id)


def tabular_logit(current: RegisteredModel, X: pd.DataFrame) -> np.ndarray:
    """Mean log-odds of the members that read features alone; sequences of the past are not read again for it."""
    return np.mean([member.logit(X) for member in current.model.members], axis=0)
