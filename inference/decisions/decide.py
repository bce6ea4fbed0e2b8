"""From scores and past contacts to decisions: the entry point of the dbt model ``retention_choices``."""

import pandas as pd

from inference.decisions.bandit import Explorer
from inference.decisions.catalogue import DecisionSettings
from inference.decisions.choose import COLUMNS, choose
from inference.decisions.effects import fit_effects
from inference.decisions.experiment import load_contacts, randomised, rewards
from inference.feature_store import client
from inference.registry import registry


def decide(scores: pd.DataFrame, outcomes: pd.DataFrame, catalogue: pd.DataFrame, variables: dict) -> pd.DataFrame:
    """Decide about every customer of the newest scores: the table ``retention_choices``.

    Parameters
    ----------
    scores : DataFrame
        ``churn_scores`` of the newest as-of date, by one model version.
    outcomes, catalogue : DataFrame
        ``int_contact_outcomes`` and the seed ``retention_actions_catalogue``.
    variables : dict
        The dbt vars of ``DecisionSettings`` by their names there, and ``bands``: the lowest probability of the risk
        bands medium, high and critical.
    """
    if scores.empty:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})
    settings = DecisionSettings.of(variables)
    current = registry.load(scores.model_version.iloc[0])
    scores = scores.sort_values("customer_id", ignore_index=True)
    features = client.snapshot_features(scores[["customer_id", "as_of_date"]])
    contacts, spend = load_contacts(current, randomised(outcomes, scores.as_of_date.iloc[0]), variables["bands"])
    value = settings.value(spend)
    explorer = Explorer(catalogue.action.to_list())
    explorer.fit(contacts.done, rewards(contacts, outcomes, value), contacts.band, value)
    new_columns = [name for name in features if name == "customer_id" or name not in scores]
    customers = scores.merge(features[new_columns], on="customer_id", validate="one_to_one")
    customers = customers.drop(columns=["text_embedding"], errors="ignore")
    X = current.model.matrix(features)
    return choose(customers, X, catalogue, fit_effects(catalogue, contacts), outcomes, explorer, settings)
