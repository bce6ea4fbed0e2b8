"""Choose the action of each customer: contact or not, with what, holdout or exploration."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from scipy.stats import norm

from inference.decisions.allocation import Limits, allocate, withdraw_excess
from inference.decisions.bandit import Explorer, draw
from inference.decisions.catalogue import DecisionSettings, check_catalogue, costs, eligible
from inference.decisions.contacts import HOLDOUT, NONE
from inference.decisions.effects import ActionEffect

#: One-sided significance level, over all actions and risk bands, at which an action counts as keeping customers.
SIGNIFICANCE = 0.025
#: Columns of retention_choices and their dtypes.
COLUMNS = {
    "customer_id": "string",
    "as_of_date": "datetime64[us]",
    "model_version": "string",
    "campaign_id": "string",
    "action": "string",
    "intended_action": "string",
    "is_holdout": "bool",
    "is_exploration": "bool",
    "channel": "string",
    "churn_probability": "float64",
    "value": "float64",
    "effect": "float64",
    "effect_source": "string",
    "expected_profit": "float64",
    "expected_profit_low": "float64",
    "expected_profit_high": "float64",
    "contact_cost": "float64",
    "assignment_probability": "float64",
    "reason": "string",
}


@dataclass(frozen=True)
class Appraisal:
    """Expected results of contacts, arrays of shape (n_customers, n_actions)."""

    acceptance: np.ndarray
    #: Expected profit, cost deducted, in the shop's currency; and half of its 95 % interval.
    profit: np.ndarray
    spread: np.ndarray
    #: Whether the action may be chosen: nothing was measured yet, or its acceptance is significantly above 0, with a
    #: Bonferroni correction for the number of actions and risk bands.
    proven: np.ndarray


def uniform_draw(customer_ids: pd.Series, purpose: str) -> np.ndarray:
    """Pseudo-random number from 0 to 1 per customer, seeded by customer and purpose; shape (n_customers,)."""
    digests = (hashlib.md5(f"{purpose}|{customer}".encode(), usedforsecurity=False) for customer in customer_ids)
    return np.array([int.from_bytes(digest.digest()[:8], "big") for digest in digests], dtype=float) / 2**64


def appraise(
    effects: Mapping[str, ActionEffect], X: pd.DataFrame, band: Collection[str], at_stake: np.ndarray, cost: np.ndarray
) -> Appraisal:
    """Estimate the profit of every action for every customer.

    ``at_stake``, of shape (n_customers,), is churn probability times value; ``cost`` has shape (n_actions,).
    """
    acceptances = zip(*(effect.acceptance(X, band) for effect in effects.values()), strict=True)
    mean, deviation = (np.column_stack(columns) for columns in acceptances)
    proven = np.column_stack([_is_proven(effect, band, len(effects)) for effect in effects.values()])
    stake = at_stake[:, None]
    return Appraisal(mean, stake * mean - cost, 1.96 * stake * deviation, proven)


def choose(
    customers: pd.DataFrame,
    X: pd.DataFrame,
    catalogue: pd.DataFrame,
    effects: Mapping[str, ActionEffect],
    outcomes: pd.DataFrame,
    explorer: Explorer,
    settings: DecisionSettings,
) -> pd.DataFrame:
    """Choose the action of every scored customer.

    A random share of the customers is held out, and a random share of all explores; both are drawn by a hash of
    customer and campaign. The others get the most profitable actions within the budget. The same is worked out for the
    holdouts, so that each action has a control group.

    Parameters
    ----------
    customers : DataFrame
        ``churn_scores`` of one date with the features that conditions may name.
    X : DataFrame
        The champion's features of the same customers.
    catalogue : DataFrame
        The seed ``retention_actions_catalogue``.
    effects : mapping of str to ActionEffect
        By action, in the catalogue's order.
    outcomes : DataFrame
        ``int_contact_outcomes``: past contacts, for the pause between contacts, costs and the remaining budget.
    explorer : Explorer
        Gives the probabilities of actions for customers who explore.
    settings : DecisionSettings
        The dbt vars.

    Returns
    -------
    DataFrame
        One row per customer, the columns of ``COLUMNS``.
    """
    check_catalogue(catalogue, settings)
    as_of, ids = pd.Timestamp(customers.as_of_date.iloc[0]), customers.customer_id
    start = settings.campaign_start(as_of.date())
    campaigns = {action: f"{start} {action}" for action in (*catalogue.action, NONE)}
    value = settings.value(customers.expected_spend.to_numpy())
    limits = _remaining(settings, outcomes, catalogue, set(campaigns.values()))
    appraisal = appraise(effects, X, customers.risk_band, customers.churn_probability.to_numpy() * value, limits.cost)
    paused_days = _days_since_contact(ids, outcomes, as_of)
    is_rested = ~(paused_days < settings.contact_every_days)
    allowed = eligible(catalogue, customers) & is_rested[:, None]
    probability = explorer.probabilities(allowed, customers.risk_band, value)
    drawn = draw(probability, uniform_draw(ids, f"draw {as_of.date()}"))
    possible = np.where(allowed & appraisal.proven, appraisal.profit, -np.inf)
    assigned = _assign(ids, start, possible, drawn, probability, limits, settings)
    result = _rows(customers, catalogue, effects, appraisal, assigned, limits.cost)
    result["campaign_id"] = [campaigns[action] for action in result.intended_action]
    result["value"] = value
    none_reasons = _reasons_for_none(effects, possible, allowed, appraisal.proven)
    for i in np.flatnonzero(~is_rested):
        none_reasons[i] = f"contacted {paused_days[i]:.0f} days ago; expected a pause of {settings.contact_every_days}"
    result["reason"] = _reasons(result, effects, none_reasons)
    return result[list(COLUMNS)].astype(COLUMNS)


def _is_proven(effect: ActionEffect, band: Collection[str], n_actions: int) -> np.ndarray:
    """Whether the action may be chosen for each customer, as of ``Appraisal.proven``."""
    if effect.source == "prior":
        return np.ones(len(band), dtype=bool)
    # a model of features says who accepts; whether anybody does is tested for all customers together
    bands = {} if effect.model_ else effect.bands_
    errors = norm.ppf(1 - SIGNIFICANCE / (n_actions * max(len(bands), 1)))
    known = (bands.get(name, effect.overall_) for name in band)
    return np.array([mean - errors * deviation > 0 for mean, deviation in known], dtype=bool)


def _days_since_contact(customer_ids: pd.Series, outcomes: pd.DataFrame, as_of: pd.Timestamp) -> np.ndarray:
    """Days since the last contact, NaN without one; shape (n_customers,)."""
    contacts = outcomes[outcomes.action != HOLDOUT]
    newest = pd.to_datetime(contacts.touched_at).groupby(contacts.customer_id).max()
    return (as_of - customer_ids.map(newest)).dt.days.to_numpy(dtype=float)


def _remaining(
    settings: DecisionSettings, outcomes: pd.DataFrame, catalogue: pd.DataFrame, campaigns: set[str]
) -> Limits:
    """Budget and caps that the contacts so far leave to the campaigns."""
    contacts = outcomes[outcomes.campaign_id.isin(campaigns)]
    done, actions = contacts.action.value_counts(), list(catalogue.action)
    spent = float(contacts.cost[contacts.action != HOLDOUT].sum())
    budget = None if settings.budget is None else max(settings.budget - spent, 0.0)
    caps = {actions.index(a): max(cap - int(done.get(a, 0)), 0) for a, cap in settings.action_caps.items()}
    return Limits(costs(catalogue, outcomes), budget, caps)


def _assign(
    ids: pd.Series,
    start: date,
    possible: np.ndarray,
    drawn: np.ndarray,
    probability: np.ndarray,
    limits: Limits,
    settings: DecisionSettings,
) -> pd.DataFrame:
    """Draw the groups, the same for the whole campaign, and give each its share of the limits of the campaign.

    ``possible`` is the profit of each action, -inf where it may not be chosen; ``drawn`` and ``probability`` are the
    explorer's. Drawn actions beyond the limits are withdrawn, in place. The column ``intended`` is the position of the
    action that the customer gets, or would get without the holdout, -1 for none.
    """
    holdout_share, explore_share = settings.holdout_share, settings.explore_share
    is_holdout = uniform_draw(ids, f"holdout {start}") < holdout_share
    is_exploration = uniform_draw(ids, f"explore {start}") < explore_share
    order = np.argsort(uniform_draw(ids, f"order {start}"), kind="stable")
    best = np.full(len(ids), -1)
    # holdouts spend nothing: their limits come on top, in proportion to their number
    hypothetical = holdout_share / max(1 - holdout_share, 1e-9)
    for in_group, share in (
        (~is_holdout & ~is_exploration, 1 - explore_share),
        (~is_holdout & is_exploration, explore_share),
        (is_holdout & ~is_exploration, hypothetical * (1 - explore_share)),
        (is_holdout & is_exploration, hypothetical * explore_share),
    ):
        group_limits = limits.scaled(share)
        best[in_group] = allocate(possible[in_group], group_limits)
        withdraw_excess(drawn, order[in_group[order]], group_limits)
    intended = np.where(is_exploration, drawn, best)
    explored = probability[np.arange(len(ids)), intended]  # -1 is the last column, of no action
    likely = explore_share * explored + (1 - explore_share) * (intended == best)
    likely = likely * np.where(is_holdout, holdout_share, 1 - holdout_share)
    columns = {"is_holdout": is_holdout, "is_exploration": is_exploration, "intended": intended}
    return pd.DataFrame(columns | {"assignment_probability": likely}, index=ids.index)


def _rows(
    customers: pd.DataFrame,
    catalogue: pd.DataFrame,
    effects: Mapping[str, ActionEffect],
    appraisal: Appraisal,
    assigned: pd.DataFrame,
    cost: np.ndarray,
) -> pd.DataFrame:
    """The columns of ``COLUMNS`` except campaign, value and reason."""
    intended, rows = assigned.intended.to_numpy(), np.arange(len(customers))
    is_contact = (intended >= 0) & ~assigned.is_holdout.to_numpy()

    def of_contact(values: np.ndarray) -> np.ndarray:
        """Value of the intended action, 0 without a contact."""
        return np.where(is_contact, values[rows, np.maximum(intended, 0)], 0.0)

    names = np.array([*catalogue.action, NONE], dtype=object)[intended]  # -1 is the last of these lists
    sources = np.array([*(effects[action].source for action in catalogue.action), NONE], dtype=object)[intended]
    channels = np.array([*catalogue.channel, None], dtype=object)[intended]
    return assigned.assign(
        customer_id=customers.customer_id,
        as_of_date=customers.as_of_date,
        model_version=customers.model_version,
        action=np.where(assigned.is_holdout, HOLDOUT, names),
        intended_action=names,
        channel=np.where(is_contact, channels, None),
        churn_probability=customers.churn_probability,
        effect=customers.churn_probability * of_contact(appraisal.acceptance),
        effect_source=sources,
        expected_profit=of_contact(appraisal.profit),
        expected_profit_low=of_contact(appraisal.profit - appraisal.spread),
        expected_profit_high=of_contact(appraisal.profit + appraisal.spread),
        contact_cost=of_contact(np.broadcast_to(cost, appraisal.profit.shape)),
    )


def _reasons(result: pd.DataFrame, effects: Mapping[str, ActionEffect], none_reasons: np.ndarray) -> list[str]:
    """Why each customer got their action, in one plain sentence; ``none_reasons`` where none was chosen."""
    descriptions = {action: effect.describe() for action, effect in effects.items()}
    reasons = []
    for row, why_none in zip(result.itertuples(index=False), none_reasons, strict=True):
        if row.is_holdout:
            would = "" if row.intended_action == NONE else f"; {row.intended_action} would have been chosen"
            reasons.append(f"held out at random, to measure what contacts do{would}")
        elif row.action == NONE:
            reasons.append("nothing is tried here" if row.is_exploration else why_none)
        elif row.is_exploration:
            reasons.append(f"{row.action} is tried here; {descriptions[row.action]}")
        else:
            reasons.append(f"expected to earn {row.expected_profit:,.2f}; {descriptions[row.action]}")
    return reasons


def _reasons_for_none(
    effects: Mapping[str, ActionEffect], possible: np.ndarray, allowed: np.ndarray, proven: np.ndarray
) -> np.ndarray:
    """Why each customer would get no action by profit; shape (n_customers,), object."""
    actions, descriptions = list(effects), [effect.describe() for effect in effects.values()]
    best = possible.argmax(axis=1)
    profit = possible[np.arange(len(possible)), best]
    reasons = np.full(len(possible), "the budget is spent where it earns more", dtype=object)
    for i in np.flatnonzero(np.isfinite(profit) & (profit <= 0)):
        action = best[i]
        reasons[i] = f"no contact pays: {actions[action]} would earn {profit[i]:,.2f}; {descriptions[action]}"
    reasons[~(allowed & proven).any(axis=1)] = f"no action is known to keep customers: {'; '.join(descriptions)}"
    reasons[~allowed.any(axis=1)] = "no action of the catalogue is for this customer"
    return reasons
