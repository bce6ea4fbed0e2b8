"""Past contacts that were randomised, with the champion's view of their customers at the time."""

from datetime import date
from threading import Lock

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object
from scipy.special import expit

from inference.decisions.contacts import Contacts
from inference.decisions.effects import MIN_CONTACTS
from inference.decisions.r_learner import predict_churn
from inference.feature_store import client
from inference.home import home
from inference.registry.registry import RegisteredModel
from inference.scoring.score import BANDS

#: Last result of ``load_contacts``: two dbt models of one build ask for it concurrently.
_last: tuple[tuple, tuple[Contacts, np.ndarray]] | None = None
_lock = Lock()


def randomised(outcomes: pd.DataFrame, as_of_date: date) -> pd.DataFrame:
    """Rows of contacts that effects are learned from, in order of time: random, and with a known outcome.

    ``outcomes`` are ``int_contact_outcomes``. They must have been known on the Monday before the newest as-of date, so
    the rows and with them the cached fits (``r_learner.cached_fit``) stay the same for a week.
    """
    monday = pd.Timestamp(as_of_date).to_period("W").start_time
    is_random = outcomes.propensity.between(0, 1, inclusive="neither")
    is_known = outcomes.churned.notna() & (pd.to_datetime(outcomes.window_ends_on) <= monday)
    rows = outcomes[outcomes.is_active & is_known & is_random & outcomes.as_of_date.notna()]
    return rows.sort_values(["touched_at", "touch_id"])


def load_contacts(current: RegisteredModel, rows: pd.DataFrame, bands: list[float]) -> tuple[Contacts, np.ndarray]:
    """Add features, churn probabilities and expected spend to past contacts.

    ``rows`` are those of ``randomised``; ``bands`` are the lowest probabilities of the risk bands medium, high and
    critical. Expected spend, shape (n_contacts,), is that of each customer in the horizon if they order, in the shop's
    currency.
    """
    global _last
    key = str(home()), current.version, bands, hash_pandas_object(rows, index=False).sum()
    with _lock:
        if _last is None or _last[0] != key:
            _last = key, _load(current, rows, bands)
        return _last[1]


def rewards(contacts: Contacts, outcomes: pd.DataFrame, value: np.ndarray) -> np.ndarray:
    """Reward of each contact: the value of the customer if they stayed, minus the cost of the contact.

    ``outcomes`` are ``int_contact_outcomes``. Values and rewards have shape (n_contacts,), in the shop's currency.
    """
    cost = outcomes.set_index("touch_id").cost.reindex(contacts.X.index).fillna(0.0).to_numpy()
    return value * (1 - contacts.churned) - np.where(contacts.is_treated, cost, 0.0)


def _load(current: RegisteredModel, rows: pd.DataFrame, bands: list[float]) -> tuple[Contacts, np.ndarray]:
    X, customer, churned = _features(current, rows), rows.customer_id.to_numpy(object), rows.churned.to_numpy(float)
    if len(X) >= MIN_CONTACTS and 0 < churned.mean() < 1:
        probability = predict_churn(X, churned, customer)
    elif len(X):  # by the members that read features only, because past sequences are not stored
        probability = expit(np.mean([member.logit(X) for member in current.model.members], axis=0))
    else:
        probability = np.empty(0)
    contacts = Contacts(
        customer=customer,
        action=rows.action.to_numpy(object),
        campaign=rows.campaign_id.fillna("").to_numpy(object),
        propensity=rows.propensity.to_numpy(float),
        churned=churned,
        probability=probability,
        band=np.array(BANDS, dtype=object)[np.searchsorted(bands, probability, side="right")],
        X=X,
        day=rows.touched_at.to_numpy("datetime64[D]"),
    )
    return contacts, current.model.spend.predict(X) if len(X) else np.empty(0)


def _features(current: RegisteredModel, rows: pd.DataFrame) -> pd.DataFrame:
    """The champion's features before each contact, indexed by ``touch_id``."""
    if rows.empty:
        return pd.DataFrame(columns=current.model.features, dtype=float)
    keys = rows[["customer_id", "as_of_date"]].assign(as_of_date=pd.to_datetime(rows.as_of_date))
    features = client.snapshot_features(keys.drop_duplicates())
    joined = keys.merge(features, on=["customer_id", "as_of_date"], how="left", validate="many_to_one")
    # the contact may be days after the snapshot; this feature is known on its own day
    joined["days_since_last_order"] = rows.days_since_last_order.to_numpy(float)
    return current.model.matrix(joined).set_axis(rows.touch_id)
