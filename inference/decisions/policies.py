"""Off-policy estimates of what policies would have earned: the entry point of ``retention_policy_estimates``."""

from datetime import date

import numpy as np
import pandas as pd

from inference.decisions.catalogue import DecisionSettings, costs
from inference.decisions.choose import appraise
from inference.decisions.contacts import NONE, Contacts
from inference.decisions.effects import ActionEffect, fit_effects
from inference.decisions.experiment import load_contacts, randomised, rewards
from inference.evaluation.off_policy import policy_value
from inference.evaluation.qini import qini_coefficient
from inference.registry import registry

#: Columns of retention_policy_estimates and their dtypes.
COLUMNS = {
    "policy": "string",
    "customers": "int64",
    "matches": "int64",
    "effective": "float64",
    "value": "float64",
    "gain": "float64",
    "gain_low": "float64",
    "gain_high": "float64",
    "qini": "float64",
    "through_date": "datetime64[us]",
}
#: Share of the contacts, the newest, on which policies are evaluated.
TEST_SHARE = 0.3


def value_policies(
    newest: tuple[str, date] | None, outcomes: pd.DataFrame, catalogue: pd.DataFrame, variables: dict
) -> pd.DataFrame:
    """Estimate what policies would have earned on the newest contacts, with effects learned from earlier ones.

    ``newest`` are the champion's version and the newest as-of date, None where nobody was scored; the other arguments
    are those of ``decide``. Policies are ``chosen`` (the most profitable action, without a budget), each action for
    everybody, and ``none``, which the others are compared with. There are no rows without contacts on two days.
    """
    estimates: list[dict] = []
    settings = DecisionSettings.of(variables)
    known = outcomes[:0] if newest is None else randomised(outcomes, newest[1])
    days = np.sort(pd.to_datetime(known.touched_at).dt.floor("D").to_numpy())
    if newest is not None and len(np.unique(days)) > 1:
        contacts, spend = load_contacts(registry.load(newest[0]), known, variables["bands"])
        # the contacts of one day stay together
        is_test = contacts.day > days[int(len(days) * (1 - TEST_SHARE))]
        test, value = contacts.take(is_test), settings.value(spend)[is_test]
        effects = fit_effects(catalogue, contacts.take(~is_test))
        appraisal = appraise(effects, test.X, test.band, test.probability * value, costs(catalogue, outcomes))
        profit = np.column_stack([np.where(appraisal.proven, appraisal.profit, -np.inf), np.zeros(len(test))])
        names = np.array([*catalogue.action, NONE], dtype=object)
        policies = {"chosen": names[profit.argmax(axis=1)]} | {a: np.full(len(test), a, object) for a in names}
        reward = rewards(test, outcomes, value)
        for policy, actions in policies.items() if len(test) else ():
            estimate = policy_value(test.done, test.propensity, reward, actions, policies[NONE])
            row = {"policy": policy, "customers": len(test), "through_date": test.day.max()}
            estimates.append(row | vars(estimate) | {"qini": _qini(effects.get(policy), test)})
    return pd.DataFrame(estimates, columns=list(COLUMNS)).astype(COLUMNS)


def _qini(effect: ActionEffect | None, contacts: Contacts) -> float:
    """Qini coefficient of the predicted effect of an action; NaN for other policies and without a control."""
    if effect is None:
        return np.nan
    own = contacts.with_holdouts_of(effect.action)
    if own.is_treated.all() or not own.is_treated.any():
        return np.nan
    mean, _ = effect.acceptance(own.X, own.band)
    propensity = np.where(own.is_treated, own.propensity, 1 - own.propensity)
    return qini_coefficient(own.probability * mean, own.is_treated, own.churned, propensity)
