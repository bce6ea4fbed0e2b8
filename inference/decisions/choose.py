"""What to do about each customer: whom to contact, with what, whom to hold out, and what to try."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd
from scipy.stats import norm

from inference.decisions.allocation import allocate
from inference.decisions.bandit import NONE, Explorer
from inference.decisions.uplift import HOLDOUT, ActionEffect
from inference.errors import ChurnRadarError

#: Chance at which an action, for any segment of customers, passes for one that keeps them though none does.
UNPROVEN = 0.025
#: Columns of retention_choices, and what they hold.
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
class DecisionSettings:
    """The dbt vars of decisions, by their names without ``churn__``."""

    horizon_days: int = 30
    margin: float = 0.3
    value_days: int = 180
    budget: float | None = None
    action_caps: Mapping[str, int] = field(default_factory=dict)
    campaign_days: int = 28
    contact_every_days: int = 14
    holdout_share: float = 0.1
    explore_share: float = 0.1

    def value(self, expected_spend: np.ndarray) -> np.ndarray:
        """Worth of a kept customer, in the shop's currency: the margin of ``value_days`` at the expected pace."""
        return self.margin * expected_spend * self.value_days / self.horizon_days

    def campaign_start(self, as_of: date) -> date:
        """Return the first day of the campaign that a day belongs to; campaigns are fixed to the calendar."""
        return as_of - timedelta(days=(as_of - date(1970, 1, 5)).days % self.campaign_days)


def check_catalogue(catalogue: pd.DataFrame, settings: DecisionSettings) -> None:
    """Refuse a catalogue that cannot be decided by.

    Raises
    ------
    ChurnRadarError
        With what is wrong, and where.
    """
    seed = "seed retention_actions_catalogue"
    for row in catalogue.itertuples(index=False):
        if row.action in (NONE, HOLDOUT):
            raise ChurnRadarError(f"{seed}: {row.action} is always there; expected other actions only")
        for name in ("contact_cost", "incentive_cost"):
            if not getattr(row, name) >= 0:
                raise ChurnRadarError(f"{seed}: {name} of {row.action} is {getattr(row, name)}; expected 0 or more")
        if not (row.prior_alpha > 0 and row.prior_beta > 0):
            raise ChurnRadarError(
                f"{seed}: prior of {row.action} is {row.prior_alpha}, {row.prior_beta}; expected above 0"
            )
    if twice := catalogue.action[catalogue.action.duplicated()].tolist():
        raise ChurnRadarError(f"{seed}: {twice[0]} is there twice; expected each action once")
    if unknown := sorted(set(settings.action_caps) - set(catalogue.action)):
        raise ChurnRadarError(
            f"churn__action_caps names {unknown[0]}; expected actions of {seed}: {', '.join(catalogue.action)}"
        )


def eligible(catalogue: pd.DataFrame, customers: pd.DataFrame) -> np.ndarray:
    """Evaluate every action's SQL condition.

    Parameters
    ----------
    catalogue : DataFrame
        Actions; ``eligible`` is null for everybody.
    customers : DataFrame
        What conditions may name, one row per customer.

    Returns
    -------
    ndarray of shape (n_customers, n_actions), bool

    Raises
    ------
    ChurnRadarError
        If a condition is no SQL condition on these columns.
    """
    allowed = np.ones((len(customers), len(catalogue)), dtype=bool)
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("customers", customers.assign(position=np.arange(len(customers))))
        for column, (action, condition) in enumerate(zip(catalogue.action, catalogue.eligible, strict=True)):
            if not isinstance(condition, str) or not condition.strip():
                continue
            try:
                found = connection.sql(f"select position from customers where ({condition})").fetchnumpy()["position"]
            except duckdb.Error as error:
                told = str(error).splitlines()[0]
                raise ChurnRadarError(
                    f"seed retention_actions_catalogue: eligible of {action} is {condition}; expected an SQL condition "
                    f"on columns of churn_scores and the features ({told})"
                ) from None
            allowed[:, column] = np.isin(np.arange(len(customers)), found)
    return allowed


def costs(catalogue: pd.DataFrame, outcomes: pd.DataFrame) -> np.ndarray:
    """Cost of one contact of each action: to reach the customer, and the incentive as often as it is taken up.

    How often is the mean of the prior acceptance, updated by how many contacts were redeemed.
    """
    told = []
    for row in catalogue.itertuples(index=False):
        own = outcomes[outcomes.action == row.action]
        taken, all_of_them = row.prior_alpha + own.is_redeemed.sum(), row.prior_alpha + row.prior_beta + len(own)
        told.append(row.contact_cost + row.incentive_cost * taken / all_of_them)
    return np.array(told, dtype=float)


def chance(customer_ids: pd.Series, purpose: str) -> np.ndarray:
    """A number from 0 to 1 per customer and purpose, by chance but the same on every run."""
    digests = (hashlib.md5(f"{purpose}|{customer}".encode(), usedforsecurity=False) for customer in customer_ids)
    return np.array([int.from_bytes(digest.digest()[:8], "big") for digest in digests], dtype=float) / 2**64


@dataclass(frozen=True)
class Appraisal:
    """What contacts with customers are worth, arrays of shape (n_customers, n_actions).

    Parameters
    ----------
    acceptance : ndarray
        Expected acceptance.
    profit : ndarray
        Expected profit, cost deducted, in the shop's currency.
    spread : ndarray
        Half of the 95 % interval of the profit.
    proven : ndarray of bool
        Whether the action is assumed to keep customers like these, as nothing was measured yet, or known to: of actions
        that do nothing, one in ``1 / UNPROVEN`` shops believes in any of them (Bonferroni).
    """

    acceptance: np.ndarray
    profit: np.ndarray
    spread: np.ndarray
    proven: np.ndarray


def appraise(
    effects: Mapping[str, ActionEffect], X: pd.DataFrame, segment: Sequence[str], at_stake: np.ndarray, cost: np.ndarray
) -> Appraisal:
    """Tell what contacts are worth.

    Parameters
    ----------
    effects : mapping of str to ActionEffect
        What each action does.
    X : DataFrame of shape (n_customers, n_features)
        The champion's features.
    segment : sequence of str
        Risk bands.
    at_stake : ndarray of shape (n_customers,)
        Churn probability times worth of each customer.
    cost : ndarray of shape (n_actions,)
        Cost of one contact.
    """
    told = [effect.acceptance(X, segment) for effect in effects.values()]
    mean, deviation = (np.column_stack([getattr(a, name) for a in told]) for name in ("mean", "deviation"))
    proven = np.column_stack([_is_proven(effect, segment, len(effects)) for effect in effects.values()])
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
    """Decide about every scored customer.

    A share of the customers is held out at random, and of the others a share tries what is not known to be best; both
    are drawn by a hash of customer and campaign. The rest gets what earns most under the budget. What those held out
    would have got is decided in the same way, so that each action can be compared with them.

    Parameters
    ----------
    customers : DataFrame
        ``churn_scores`` of one date with the features that conditions may name.
    X : DataFrame
        The champion's features of the same customers.
    catalogue : DataFrame
        The seed ``retention_actions_catalogue``.
    effects : mapping of str to ActionEffect
        What each action does.
    outcomes : DataFrame
        ``int_contact_outcomes``: past contacts, for the pause between contacts, costs and what is left of the budget.
    explorer : Explorer
        Draws what is tried.
    settings : DecisionSettings
        The dbt vars.

    Returns
    -------
    DataFrame
        One row per customer, the columns of ``COLUMNS``.
    """
    check_catalogue(catalogue, settings)
    n, actions = len(customers), list(catalogue.action)
    as_of = pd.Timestamp(customers.as_of_date.iloc[0])
    start = settings.campaign_start(as_of.date())
    campaigns = {action: f"{start} {action}" for action in (*actions, NONE)}
    probability = customers.churn_probability.to_numpy()
    value = settings.value(customers.expected_spend.to_numpy())
    cost = costs(catalogue, outcomes)
    appraised = appraise(effects, X, customers.risk_band, probability * value, cost)
    mean, profit, spread, proven = appraised.acceptance, appraised.profit, appraised.spread, appraised.proven
    paused_days = _days_since_contact(customers.customer_id, outcomes, as_of)
    rested = ~(paused_days < settings.contact_every_days)
    allowed = eligible(catalogue, customers) & rested[:, None]

    held = chance(customers.customer_id, f"holdout {start}") < settings.holdout_share
    explores = chance(customers.customer_id, f"explore {start}") < settings.explore_share
    left = _left_of_budget(settings, outcomes, set(campaigns.values()))
    caps = _left_of_caps(settings, outcomes, actions, set(campaigns.values()))
    drawn, odds = explorer.draw(customers, value, allowed, chance(customers.customer_id, f"draw {as_of.date()}"))
    order = np.argsort(chance(customers.customer_id, f"order {start}"), kind="stable")
    best = np.full(n, -1)
    # what is held out costs nothing: it would have had its part of a budget as much larger
    would_have = settings.holdout_share / max(1 - settings.holdout_share, 1e-9)
    for group, share in (
        (~held & ~explores, 1 - settings.explore_share),
        (~held & explores, settings.explore_share),
        (held & ~explores, would_have * (1 - settings.explore_share)),
        (held & explores, would_have * settings.explore_share),
    ):
        own_budget = None if left is None else left * share
        own_caps = {action: int(most * share) for action, most in caps.items()}
        possible = np.where(allowed[group] & proven[group], profit[group], -np.inf)
        best[group] = allocate(possible, cost, own_budget, own_caps)
        _take_back(drawn, order[group[order]], cost, own_budget, own_caps)
    intended = np.where(explores, drawn, best)
    named = np.array([*actions, NONE], dtype=object)
    picked, rows = np.where(intended < 0, len(actions), intended), np.arange(n)
    likely = settings.explore_share * odds[rows, picked] + (1 - settings.explore_share) * (intended == best)
    is_contact = ~held & (intended >= 0)

    def of_intended(values: np.ndarray) -> np.ndarray:
        return np.where(intended >= 0, values[rows, np.maximum(intended, 0)], 0.0)

    pairs = np.broadcast_to(cost, profit.shape)
    acceptance = of_intended(mean)
    result = pd.DataFrame(
        {
            "customer_id": customers.customer_id.to_numpy(),
            "as_of_date": customers.as_of_date.to_numpy(),
            "model_version": customers.model_version.to_numpy(),
            "campaign_id": [campaigns[name] for name in named[picked]],
            "action": np.where(held, HOLDOUT, named[picked]),
            "intended_action": named[picked],
            "is_holdout": held,
            "is_exploration": explores,
            "channel": np.where(is_contact, np.array([*catalogue.channel, None], object)[picked], None),
            "churn_probability": probability,
            "value": value,
            "effect": np.where(is_contact, probability * acceptance, 0.0),
            "effect_source": np.array([*(effects[action].source for action in actions), NONE], object)[picked],
            "expected_profit": np.where(is_contact, of_intended(profit), 0.0),
            "expected_profit_low": np.where(is_contact, of_intended(profit - spread), 0.0),
            "expected_profit_high": np.where(is_contact, of_intended(profit + spread), 0.0),
            "contact_cost": np.where(is_contact, of_intended(pairs), 0.0),
            "assignment_probability": likely * np.where(held, settings.holdout_share, 1 - settings.holdout_share),
        }
    )
    result["reason"] = _reasons(
        result, effects, actions, profit, allowed, proven, best, paused_days, settings.contact_every_days
    )
    return result.astype(COLUMNS)


def _is_proven(effect: ActionEffect, segment: Sequence[str], n_actions: int) -> np.ndarray:
    if effect.source == "prior":
        return np.ones(len(segment), dtype=bool)
    # a model of features earned its place; whether the action does anything at all is measured for all together
    segments = {} if effect.model_ else effect.segments_
    known = (segments.get(name, effect.overall_) for name in segment)
    errors = norm.ppf(1 - UNPROVEN / (n_actions * max(len(segments), 1)))
    return np.array([mean - errors * deviation > 0 for mean, deviation in known], dtype=bool)


def _days_since_contact(customer_ids: pd.Series, outcomes: pd.DataFrame, as_of: pd.Timestamp) -> np.ndarray:
    contacts = outcomes[outcomes.action != HOLDOUT]
    newest = pd.to_datetime(contacts.touched_at).groupby(contacts.customer_id).max()
    return (as_of - customer_ids.map(newest)).dt.days.to_numpy(dtype=float)


def _left_of_budget(settings: DecisionSettings, outcomes: pd.DataFrame, campaigns: set[str]) -> float | None:
    if settings.budget is None:
        return None
    own = outcomes.campaign_id.isin(campaigns) & (outcomes.action != HOLDOUT)
    return max(settings.budget - float(outcomes.cost[own].sum()), 0.0)


def _left_of_caps(
    settings: DecisionSettings, outcomes: pd.DataFrame, actions: list[str], campaigns: set[str]
) -> dict[int, int]:
    done = outcomes.action[outcomes.campaign_id.isin(campaigns)].value_counts()
    return {actions.index(a): max(most - int(done.get(a, 0)), 0) for a, most in settings.action_caps.items()}


def _take_back(
    drawn: np.ndarray, order: np.ndarray, cost: np.ndarray, budget: float | None, caps: Mapping[int, int]
) -> None:
    """Take back, of customers in an order, what was drawn beyond budget and caps."""
    order = order[drawn[order] >= 0]
    gone = np.zeros(len(order), dtype=bool)
    for action, most in caps.items():
        own = drawn[order] == action
        gone |= own & (np.cumsum(own) > most)
    if budget is not None:
        gone |= np.cumsum(np.where(gone, 0.0, cost[drawn[order]])) > budget
    drawn[order[gone]] = -1


def _reasons(
    result: pd.DataFrame,
    effects: Mapping[str, ActionEffect],
    actions: list[str],
    profit: np.ndarray,
    allowed: np.ndarray,
    proven: np.ndarray,
    best: np.ndarray,
    paused_days: np.ndarray,
    contact_every_days: int,
) -> list[str]:
    """One plain sentence per customer."""
    told = {action: effects[action].tell() for action in actions}
    nothing_known = "; ".join(f"{told[action]}" for action in actions)
    possible = np.where(allowed & proven, profit, -np.inf)
    highest = possible.argmax(axis=1) if actions else np.zeros(len(result), int)
    sentences = []
    for i, row in enumerate(result.itertuples(index=False)):
        if row.is_holdout:
            would = "" if row.intended_action == NONE else f"; {row.intended_action} would have been chosen"
            sentences.append(f"held out at random, to measure what contacts do{would}")
        elif row.is_exploration and row.action != NONE:
            sentences.append(f"{row.action} is tried here; {told[row.action]}")
        elif row.action != NONE:
            sentences.append(f"expected to earn {row.expected_profit:,.2f}; {told[row.action]}")
        elif row.is_exploration:
            sentences.append("nothing is tried here")
        elif paused_days[i] < contact_every_days:
            sentences.append(f"contacted {paused_days[i]:.0f} days ago; expected a pause of {contact_every_days}")
        elif not allowed[i].any():
            sentences.append("no action of the catalogue is for this customer")
        elif not proven[i][allowed[i]].any():
            sentences.append(f"no action is known to keep customers: {nothing_known}")
        elif possible[i, highest[i]] <= 0:
            sentences.append(
                f"no contact pays: {actions[highest[i]]} would earn {possible[i, highest[i]]:,.2f}; "
                f"{told[actions[highest[i]]]}"
            )
        else:
            sentences.append("the budget is spent where it earns more")
    return sentences
