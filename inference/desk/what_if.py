"""Scores of one customer after hypothetical changes, such as another order or a closed ticket."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Self

from inference.desk.data import exported, query
from inference.desk.format import money
from inference.desk.timeline import history
from inference.errors import ChurnRadarError
from inference.realtime.features import at_midnight
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
class Answer:
    """Scores of one customer at the newest snapshot, 0 to 1."""

    as_of: date
    model_version: str
    #: Without a change.
    churn_probability: float
    #: By change that applies to the customer: the end of a sentence that begins with "if".
    changes: dict[str, float]


class WhatIf:
    """Scores changed histories of customers by the last build's model, that of ``shop.model_version``."""

    def __init__(self, shop: OnlineShop, model: RegisteredModel) -> None:
        self.shop, self._model = shop, model

    @classmethod
    def load(cls) -> Self:
        """Load the model of the last build, which takes seconds; none, or a damaged one, is a ``ChurnRadarError``."""
        rows = query("select facts from {shop}", shop=exported("online_shop"))
        if rows.empty:
            raise ChurnRadarError(f"{exported('online_shop')}: no build has scored anybody; run dbt build")
        shop = OnlineShop.unpack(rows.facts.iloc[0])
        return cls(shop, registry.load(shop.model_version))

    def answer(self, customer_id: str) -> Answer | None:
        """Score a customer with and without changes; None for somebody who is not a customer at the newest snapshot."""
        rows, as_of = history(customer_id), self.shop.as_of
        now = None if rows is None else self._score(customer_id, rows, as_of)
        if rows is None or now is None:
            return None
        cases = [(what, changed, as_of) for what, changed in self._changed_rows(rows, at_midnight(as_of))]
        cases += [(f"they stay silent for {days} more days", rows, as_of + timedelta(days)) for days in SILENCE]
        scores = {what: self._score(customer_id, changed, day) for what, changed, day in cases}
        changes = {what: probability for what, probability in scores.items() if probability is not None}
        return Answer(as_of, self.shop.model_version, now, changes)

    def _score(self, customer_id: str, rows: CustomerRows, as_of: date) -> float | None:
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
            written_at = review["reviewed_at"]
            yield f"they had not written their review of {written_at.day} {written_at:%B}", without

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
