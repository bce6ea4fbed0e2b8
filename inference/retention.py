"""From scores and past contacts to decisions: what the dbt model ``retention_choices`` calls."""

from dataclasses import fields

import numpy as np
import pandas as pd
from scipy.special import expit

from inference import feature_store, registry
from inference.decisions import COLUMNS, NONE, DecisionSettings, choose
from inference.exploration import Explorer
from inference.registry import RegisteredModel
from inference.uplift import HOLDOUT, Contacts, fit_effects

#: Newest contacts that effects are learned from.
MOST_CONTACTS = 200_000


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
    features = feature_store.historical_features(scores[["customer_id", "as_of_date"]])
    contacts, spend = known_contacts(current, outcomes, variables["bands"])
    explorer = Explorer(catalogue.action.to_list())
    if contacts is not None:
        value = settings.value(spend)
        cost = outcomes.set_index("touch_id").cost.reindex(contacts.X.index).fillna(0.0).to_numpy()
        is_holdout = contacts.action == HOLDOUT
        reward = value * (1 - contacts.churned) - np.where(is_holdout, 0.0, cost)
        explorer.fit(np.where(is_holdout, NONE, contacts.action), reward, contacts.segment, value)
    else:
        explorer.fit(np.empty(0, object), np.empty(0), [], np.empty(0))
    named = scores.merge(
        features[[name for name in features if name == "customer_id" or name not in scores]],
        on="customer_id",
        validate="one_to_one",
    ).drop(columns=["text_embedding"], errors="ignore")
    X = current.model.matrix(features)
    return choose(named, X, catalogue, fit_effects(catalogue, contacts), outcomes, explorer, settings)


def known_contacts(
    current: RegisteredModel, outcomes: pd.DataFrame, bands: list[float]
) -> tuple[Contacts | None, np.ndarray]:
    """Pick the contacts that effects can be learned from, with what the champion says of their customers before.

    Parameters
    ----------
    current : RegisteredModel
        The champion.
    outcomes : DataFrame
        ``int_contact_outcomes``.
    bands : list of float
        Lowest probability of the risk bands medium, high and critical.

    Returns
    -------
    Contacts or None
        With ``touch_id`` as the index of ``X``; None where there are none.
    ndarray of shape (n_contacts,)
        What each customer was expected to spend in the horizon, if they ordered.
    """
    known = outcomes[
        outcomes.is_active & outcomes.churned.notna() & (outcomes.propensity > 0) & outcomes.as_of_date.notna()
    ]
    known = known.sort_values(["touched_at", "touch_id"]).tail(MOST_CONTACTS)
    if known.empty:
        return None, np.empty(0)
    keys = known[["customer_id", "as_of_date"]].drop_duplicates()
    features = feature_store.historical_features(keys)
    joined = known[["customer_id", "as_of_date"]].merge(
        features, on=["customer_id", "as_of_date"], how="left", validate="many_to_one"
    )
    X = current.model.matrix(joined).set_axis(known.touch_id)
    probability = expit(tabular_logit(current, X))
    segments = np.array(["low", "medium", "high", "critical"], dtype=object)
    return (
        Contacts(
            action=known.action.to_numpy(object),
            campaign=known.campaign_id.fillna("").to_numpy(object),
            propensity=known.propensity.to_numpy(float),
            churned=known.churned.to_numpy(float),
            probability=probability,
            segment=segments[np.searchsorted(bands, probability, side="right")],
            X=X,
            day=known.touched_at.to_numpy("datetime64[D]"),
        ),
        current.model.spend.predict(X),
    )


def tabular_logit(current: RegisteredModel, X: pd.DataFrame) -> np.ndarray:
    """Mean log-odds of the members that read features alone; sequences of the past are not read again for it."""
    return np.mean([member.logit(X) for member in current.model.members], axis=0)
