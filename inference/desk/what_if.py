"""Scores of one customer after hypothetical changes, such as another order or a closed ticket."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Self

from inference.desk.data import exported, query
from inference.desk.format import money
from inference.desk.timeline import history
from inference.errors import ChurnRadarError
from inference.realtime.history import CustomerRows
from inference.realtime.score import features_at, score_customer
from inference.realtime.shop import OnlineShop
from inference.registry import registry
from inference.registry.registry import RegisteredModel

#: Changes happen this long before the midnight of the score.
EVENING = timedelta(hours=6)
#: Maximal age in days of a complaint whose effect is computed.
RECENT_DAYS = 90
#: Pages of a hypothetical visit, and days without any action.
PAGES, SILENCE = 3, (7, 14)


@dataclass(frozen=True)
class Change:
    """A score after a change.

    Parameters
    ----------
    what : str
        The change, as the end of a sentence that begins with "if".
    churn_probability : float
        Score after the change, 0 to 1.
    """

    what: str
    churn_probability: float


@dataclass(frozen=True)
class Answer:
    """Scores of one customer at the newest snapshot.

    Parameters
    ----------
    as_of : date
        The newest snapshot.
    model_version : str
        Version of the model.
    churn_probability : float
        Score without a change, 0 to 1.
    changes : list of Change
        Changes that apply to the customer.
    """

    as_of: date
    model_version: str
    churn_probability: float
    changes: list[Change]


class WhatIf:
    """Scores changed histories of customers by the model of the last build.

    Parameters
    ----------
    shop : OnlineShop
        The last build.
    model : RegisteredModel
        The model of ``shop.model_version``.
    """

    def __init__(self, shop: OnlineShop, model: RegisteredModel) -> None:
        self.shop, self._model = shop, model

    @classmethod
    def load(cls) -> Self:
        """Load the model of the last build, which takes seconds.

        Raises
        ------
        ChurnRadarError
            If no build has scored anybody, or the model is missing or damaged.
        """
        rows = query("select facts from {shop}", shop=exported("online_shop"))
        if rows.empty:
            raise ChurnRadarError(f"{exported('online_shop')}: no build has scored anybody; run dbt build")
        shop = OnlineShop.unpack(rows.facts.iloc[0])
        return cls(shop, registry.load(shop.model_version))

    def answer(self, customer_id: str) -> Answer | None:
        """Score a customer with and without changes; None for somebody who is not a customer at the newest snapshot."""
        packed = history(customer_id)
        if packed is None:
            return None
        rows = CustomerRows.unpack(packed.history, packed.text_vectors)
        now = self.score(customer_id, rows, self.shop.as_of)
        if now is None:
            return None
        return Answer(self.shop.as_of, self.shop.model_version, now, self.changes(customer_id, rows))

    def changes(self, customer_id: str, rows: CustomerRows) -> list[Change]:
        """Score every change that applies to a customer.

        Parameters
        ----------
        customer_id : str
            A customer at the newest snapshot.
        rows : CustomerRows
            Their rows, which stay unchanged.
        """
        midnight = datetime.combine(self.shop.as_of, time())
        cases = [(what, changed, self.shop.as_of) for what, changed in self._changed_rows(rows, midnight)]
        cases += [
            (f"they stay silent for {days} more days", rows, self.shop.as_of + timedelta(days)) for days in SILENCE
        ]
        scores = [(what, self.score(customer_id, changed, as_of)) for what, changed, as_of in cases]
        return [Change(what, probability) for what, probability in scores if probability is not None]

    def score(self, customer_id: str, rows: CustomerRows, as_of: date) -> float | None:
        """Return the churn probability at a midnight; None for somebody who is not a customer then."""
        if not self.shop.is_customer(rows, as_of):
            return None
        score = score_customer(self._model, features_at(rows, as_of, self.shop), as_of, self.shop, customer_id)
        return float(score["churn_probability"])

    def _changed_rows(self, rows: CustomerRows, midnight: datetime) -> Iterator[tuple[str, CustomerRows]]:
        evening = midnight - EVENING
        completed = [order for order in rows.orders.values() if order["status"] == "completed"]
        if completed:
            last = max(completed, key=lambda order: order["ordered_at"])
            yield (
                f"they had ordered yesterday what they ordered last ({money(last['amount'])})",
                _ordered(rows, last, evening),
            )
        if "events" in self.shop.facts.tables:
            looked = _visited(rows, evening, ["view"] * PAGES)
            yield f"they had looked at {PAGES} pages of the shop yesterday", looked
            yield (
                f"they had looked at {PAGES} pages and put a product in the cart",
                _visited(looked, evening, ["cart_add"]),
            )
        if still_open := [key for key, ticket in rows.tickets.items() if ticket["closed_at"] is None]:
            closed = deepcopy(rows)
            for key in still_open:
                closed.tickets[key]["closed_at"] = evening
            yield f"their open ticket{'' if len(still_open) == 1 else 's'} had been closed yesterday", closed
        if review := self._complaint(rows, midnight):
            without = deepcopy(rows)
            del without.reviews[review["review_id"]]
            without.vectors.pop(review["text_id"], None)
            yield f"they had not written their review of {_day(review['reviewed_at'])}", without

    def _complaint(self, rows: CustomerRows, midnight: datetime) -> dict | None:
        """Return the newest complaint in a review of the last ``RECENT_DAYS`` days."""
        complaints = [
            review
            for review in rows.reviews.values()
            if timedelta() < midnight - review["reviewed_at"] <= timedelta(days=RECENT_DAYS)
            and ((review["complaint_score"] or 0) >= self.shop.facts.complaint_from or (review["rating"] or 5) <= 2)
        ]
        return max(complaints, key=lambda review: review["reviewed_at"], default=None)


def _ordered(rows: CustomerRows, last: dict, moment: datetime) -> CustomerRows:
    """Add a copy of the last order."""
    changed, key = deepcopy(rows), "what-if"
    changed.orders[key] = {**last, "order_id": key, "ordered_at": moment, "known_at": moment}
    changed.items[key] = [{**item, "order_id": key} for item in rows.items.get(last["order_id"], ())]
    return changed


def _visited(rows: CustomerRows, moment: datetime, kinds: Sequence[str]) -> CustomerRows:
    changed = deepcopy(rows)
    for kind in kinds:
        key = f"what-if {len(changed.events)}"
        changed.events[key] = {"event_id": key, "event_type": kind, "occurred_at": moment, "session_id": "what-if"}
    return changed


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B}"
