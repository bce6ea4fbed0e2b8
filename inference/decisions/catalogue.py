"""The action catalogue, a dbt seed: checks, eligibility and costs; and the dbt vars of decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, timedelta

import duckdb
import numpy as np
import pandas as pd

from inference.decisions.contacts import HOLDOUT, NONE
from inference.errors import ChurnRadarError

SEED = "seed retention_actions_catalogue"


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

    @classmethod
    def of(cls, variables: Mapping) -> "DecisionSettings":
        """Pick the settings from a mapping that may hold others."""
        return cls(**{field.name: variables[field.name] for field in fields(cls)})

    def value(self, expected_spend: np.ndarray) -> np.ndarray:
        """Value of a kept customer, in the shop's currency: the margin of ``value_days`` at the expected spend."""
        return self.margin * expected_spend * self.value_days / self.horizon_days

    def campaign_start(self, as_of: date) -> date:
        """First day of the campaign that a day belongs to; campaigns are aligned to the calendar."""
        return as_of - timedelta(days=(as_of - date(1970, 1, 5)).days % self.campaign_days)


def check_catalogue(catalogue: pd.DataFrame, settings: DecisionSettings) -> None:
    """Check the values of the catalogue and the names in ``churn__action_caps``.

    Raises
    ------
    ChurnRadarError
        With the first wrong value and what was expected.
    """
    for row in catalogue.itertuples(index=False):
        if row.action in (NONE, HOLDOUT):
            raise ChurnRadarError(f"{SEED}: {row.action} is always there; expected other actions only")
        if row.action != (read := row.action.strip().lower()):  # as staging reads campaign_touches
            raise ChurnRadarError(
                f"{SEED}: the action {row.action} is never found in campaign_touches; expected {read}"
            )
        for name in ("contact_cost", "incentive_cost"):
            if not getattr(row, name) >= 0:
                raise ChurnRadarError(f"{SEED}: {name} of {row.action} is {getattr(row, name)}; expected 0 or more")
        if not (row.prior_alpha > 0 and row.prior_beta > 0):
            raise ChurnRadarError(
                f"{SEED}: prior of {row.action} is {row.prior_alpha}, {row.prior_beta}; expected above 0"
            )
    if twice := catalogue.action[catalogue.action.duplicated()].tolist():
        raise ChurnRadarError(f"{SEED}: {twice[0]} is there twice; expected each action once")
    if unknown := sorted(set(settings.action_caps) - set(catalogue.action)):
        raise ChurnRadarError(
            f"churn__action_caps names {unknown[0]}; expected actions of {SEED}: {', '.join(catalogue.action)}"
        )


def eligible(catalogue: pd.DataFrame, customers: pd.DataFrame) -> np.ndarray:
    """Which customers meet the SQL condition of each action (null: everybody), shape (n_customers, n_actions), bool.

    Raises
    ------
    ChurnRadarError
        If a condition is not valid SQL on these columns.
    """
    allowed = np.ones((len(customers), len(catalogue)), dtype=bool)
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("customers", customers.assign(position=np.arange(len(customers))))
        for column, (action, condition) in enumerate(zip(catalogue.action, catalogue.eligible, strict=True)):
            if not isinstance(condition, str) or not condition.strip():
                continue
            try:
                rows = connection.sql(f"select position from customers where ({condition})").fetchnumpy()
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise ChurnRadarError(
                    f"{SEED}: eligible of {action} is {condition}; expected an SQL condition on columns of "
                    f"churn_scores and the features ({reason})"
                ) from None
            allowed[:, column] = np.isin(np.arange(len(customers)), rows["position"])
    return allowed


def costs(catalogue: pd.DataFrame, outcomes: pd.DataFrame) -> np.ndarray:
    """Expected cost of one contact of each action, shape (n_actions,), in the shop's currency.

    It is the cost to reach the customer, and the incentive times its redemption rate, which is the mean of its beta
    posterior: the prior acceptance, updated by past contacts.
    """
    expected = []
    for row in catalogue.itertuples(index=False):
        past = outcomes[outcomes.action == row.action]
        redeemed = row.prior_alpha + past.is_redeemed.sum()
        n_contacts = row.prior_alpha + row.prior_beta + len(past)
        expected.append(row.contact_cost + row.incentive_cost * redeemed / n_contacts)
    return np.array(expected, dtype=float)
