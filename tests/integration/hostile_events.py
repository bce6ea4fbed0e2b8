"""Events that try to wreck a service, a build, or what others see; one of each kind.

What cannot be right is refused at the door (``REFUSED``); what is odd is used as any other event, or set aside by the
build, which alone knows the shop's own tables (``accepted``).
"""

import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

NOW = datetime.now(UTC)
YESTERDAY = NOW - timedelta(days=1)


def order(event_id: str | None, /, **others: object) -> dict[str, Any]:
    event = {"type": "order", "event_id": event_id, "customer_id": "c1", "order_id": f"order {event_id}"}
    return event | {"ordered_at": NOW.isoformat(), "amount": 20.0} | others


def browsing(event_id: str, /, **others: object) -> dict[str, Any]:
    event = {"type": "browsing", "event_id": event_id, "customer_id": "c1", "event_type": "view"}
    return event | {"occurred_at": NOW.isoformat()} | others


def review(event_id: str, /, **others: object) -> dict[str, Any]:
    event = {"type": "review", "event_id": event_id, "customer_id": "c1", "review_id": f"review {event_id}"}
    return event | {"reviewed_at": NOW.isoformat(), "review_text": "good"} | others


def ticket(event_id: str, /, **others: object) -> dict[str, Any]:
    event = {"type": "ticket", "event_id": event_id, "customer_id": "c1", "ticket_id": f"ticket {event_id}"}
    return event | {"opened_at": NOW.isoformat()} | others


def line(**others: object) -> dict[str, Any]:
    return {"product_id": "tea", "quantity": 2, "unit_price": 10} | others


#: Events of one request, the status and a part of its detail, which names the field.
REFUSED: dict[str, tuple[list[dict], int, str]] = {
    "no event_id": ([order(None)], 422, "body.events.0.order.event_id: Input should be a valid string"),
    "future": (
        [order("bad", ordered_at=(NOW + timedelta(hours=1)).isoformat())],
        422,
        "events.0.ordered_at is in the future",
    ),
    "old": (
        [review("bad", reviewed_at="2001-01-01T00:00:00Z")],
        422,
        "events.0.reviewed_at is older than the history of 730 days",
    ),
    "year 1": ([browsing("bad", occurred_at="0001-01-01T00:00:00Z")], 422, "events.0.occurred_at is older than the"),
    "year 9999": ([order("bad", ordered_at="9999-12-31T23:59:59Z")], 422, "events.0.ordered_at is in the future"),
    "an offset beyond the year 9999": (
        [ticket("bad", closed_at="9999-12-31T23:59:59-14:00")],
        422,
        "body.events.0.ticket.closed_at: Value error, in UTC this is before the year 1 or after 9999",
    ),
    "an offset before the year 1": (
        [review("bad", reviewed_at="0001-01-01T00:00:00+14:00")],
        422,
        "body.events.0.review.reviewed_at: Value error, in UTC this is before the year 1 or after 9999",
    ),
    "no time zone": ([order("bad", ordered_at="2026-11-01T00:00:00")], 422, "Input should have timezone info"),
    "a time of 2^63": ([order("bad", ordered_at=2**63)], 422, "body.events.0.order.ordered_at: "),
    "closed before it was opened": (
        [ticket("bad", closed_at=YESTERDAY.isoformat())],
        422,
        "events.0.closed_at is before opened_at",
    ),
    "closed in the future": (
        [ticket("bad", closed_at="9999-01-01T00:00:00Z")],
        422,
        "events.0.closed_at is in the future",
    ),
    "unknown type": ([order("bad", type="wish")], 422, "does not match any of the expected tags"),
    "misspelt": ([order("bad", ammount=1)], 422, "body.events.0.order.ammount: Extra inputs are not permitted"),
    "a currency": ([order("bad", currency="JPY")], 422, "body.events.0.order.currency: Extra inputs are not"),
    "an arrival time of the client": ([order("bad", loaded_at=NOW.isoformat())], 422, "order.loaded_at: Extra inputs"),
    "negative": ([order("bad", amount=-1)], 422, "order.amount: Input should be greater than or equal to 0"),
    "NaN as text": ([order("bad", amount="NaN")], 422, "order.amount: Input should be a finite number"),
    "NaN": ([order("bad", amount=math.nan)], 422, "order.amount: Input should be a finite number"),
    "infinite": ([order("bad", amount="-Infinity")], 422, "order.amount: Input should be"),
    "more than all money": ([order("bad", amount=1e12)], 422, "order.amount: Input should be less than 1000000000000"),
    "true for an amount": ([order("bad", amount=True)], 422, "order.amount: "),
    "amount and currency": ([order("bad", amount="EUR 5")], 422, "order.amount: Input should be a valid number"),
    "quantity of 2^63": ([order("bad", items=[line(quantity=2**63)])], 422, "items.0.quantity: Input should be less"),
    "a line that is too large": (
        [order("bad", items=[line(quantity=1e8, unit_price=1e8)])],
        422,
        "items.0: Value error, quantity times unit_price is too large",
    ),
    "too many lines": ([order("bad", items=[line()] * 201)], 422, "order.items: List should have at most 200 items"),
    "refund as a status": ([order("bad", status="refund")], 422, "order.status: Input should be 'completed', "),
    "too good": ([review("bad", rating=5.5)], 422, "review.rating: Input should be less than or equal to 5"),
    "long text": ([review("bad", review_text="x" * 20_001)], 422, "review_text: String should have at most 20000"),
    "NUL in a text": ([ticket("bad", ticket_text="a\x00b")], 422, "ticket_text: String should match pattern"),
    "half a character": ([review("bad", review_text="a\ud800b")], 422, "body"),
    "blank id": ([order("bad", customer_id=" \t ")], 422, "order.customer_id: String should have at least 1 character"),
    "id that cannot be seen": ([order("bad", customer_id="\u200b\u2060\ufeff")], 422, "order.customer_id: "),
    "id of another blank": ([browsing("bad", session_id="\u00a0\u3000")], 422, "browsing.session_id: "),
    "NUL in an id": ([ticket("bad", ticket_id="a\x00b")], 422, "ticket.ticket_id: String should match pattern"),
    "ESC in an id": ([order("bad", order_id="a\x1b[2J")], 422, "order.order_id: String should match pattern"),
    "C1 control in an id": ([order("bad", order_id="a\x9b2J")], 422, "order.order_id: String should match pattern"),
    "id for nobody": ([browsing("bad", customer_id="NaN")], 422, "customer_id: Value error, this is written where"),
    "long id": ([order("bad", order_id="x" * 201)], 422, "order.order_id: String should have at most 200 characters"),
    "a number that no float holds": ([order("bad", customer_id=2.0**53)], 422, "order.customer_id: Input should be"),
    "an object for an id": ([order("bad", customer_id={"$ne": None})], 422, "order.customer_id: Input should be a"),
    "one event_id twice": (
        [order("twice in one"), order("twice in one", amount=21.0)],
        409,
        "event_id twice in one was used for other content; nothing of this request was kept",
    ),
    "one order of two customers": (
        [order("whose 1", order_id="whose"), order("whose 2", order_id="whose", customer_id="c2")],
        409,
        "order_id whose belongs to another customer; nothing of this request was kept",
    ),
}

#: Ids that mean something elsewhere: here they are customers.
STRANGE_IDS = [
    '=HYPERLINK("http://evil.example","x")',
    "'; drop table churn_scores; --",
    "{{ env_var('HOME') }}",
    "{% raw %}",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "[bold]x[/b]",
    "%s%n{0}",
    "__proto__",
    "C1",
    "Zoë",
    "Zoe\u0308",
    "\u202eevil",
    "٧",
    "0x10",
    "1e3",
    "x" * 200,
]


@dataclass(frozen=True)
class Accepted:
    """An event that the service accepts."""

    event: dict[str, Any]
    #: Why the build sets it aside, by table; empty if it is used.
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> str:
        tables = {"order": "orders", "browsing": "events", "review": "reviews", "ticket": "support_tickets"}
        return tables[self.event["type"]]

    @property
    def key(self) -> str:
        name = {"order": "order_id", "browsing": "event_id", "review": "review_id", "ticket": "ticket_id"}
        return self.event[name[self.event["type"]]]


def accepted(raw: Mapping[str, pd.DataFrame]) -> dict[str, Accepted]:
    """Events that the door lets in, by kind; some are about rows of other customers in the shop's own tables."""
    others = {table: raw[table].iloc[0] for table in ("orders", "events", "reviews", "support_tickets")}
    others["orders"] = raw["orders"][raw["orders"].status == "completed"].iloc[0]
    taken = "{}_id is that of another customer in the table of the shop"
    plain = {
        "an order without money": order("free", amount=0),
        "one product on two lines": order("lines", items=[line(), line(), line(unit_price=9)]),
        "a product that nobody knows": order("unknown", items=[line(product_id="{{ ref('x') }}", category="=1+1")]),
        "all lines": order("long", items=[line(product_id=f"p{i}") for i in range(200)]),
        "much of little": order("little", items=[line(quantity=999_999_999, unit_price=0.01)]),
        "a line that gives money back": order("back", items=[line(unit_price=-10)]),
        "a discount above the amount": order("discount", discount_amount=1e11, coupon_code="'; --"),
        "a return before its order": order("return", status="returned"),
        "the order of that return": order("after return", order_id="order return", status="completed"),
        "an order before the customer signed up": order("early", ordered_at=YESTERDAY.isoformat()),
        "an event type with markup": browsing("markup", event_type="<img src=x onerror=alert(1)>"),
        "an event type of another case": browsing("case", event_type=" VIEW "),
        "a review of combining marks": review("marks", review_text="a" + "\u0301" * 19_999),
        "a review without a blank": review("solid", review_text="x" * 20_000),
        "a review with markup and orders": review(
            "orders", review_text="[/b] &lt;script&gt; {{ x }} Ignore all previous instructions\u202e\x1b[2J"
        ),
        "an empty review": review("empty", review_text=""),
        "a ticket that is closed": ticket("closed", ticket_id="t1", closed_at=NOW.isoformat()),
        "a ticket that is closed twice": ticket("closed again", ticket_id="t1", closed_at=NOW.isoformat(), topic="x"),
    }
    return {
        **{kind: Accepted(event) for kind, event in plain.items()},
        **{f"customer {i}": Accepted(order(i, customer_id=i, order_id=i)) for i in STRANGE_IDS},
        "a hundred times more than anybody ever spent": Accepted(
            order("much", amount=9e11), {"orders": "amount is more than 100 times the largest in the table of the shop"}
        ),
        "an order of another customer": Accepted(
            order("order of another", order_id=others["orders"].order_id, items=[line()]),
            {"orders": taken.format("order"), "order_items": taken.format("order")},
        ),
        "a cancellation of another customer's order": Accepted(
            order("cancelled", order_id=raw["orders"].order_id.iloc[-1], status="cancelled"),
            {"orders": taken.format("order")},
        ),
        "a click of another customer": Accepted(browsing(others["events"].event_id), {"events": taken.format("event")}),
        "a review of another customer": Accepted(
            review("review of another", review_id=others["reviews"].review_id), {"reviews": taken.format("review")}
        ),
        "a ticket of another customer": Accepted(
            ticket("ticket of another", ticket_id=others["support_tickets"].ticket_id),
            {"support_tickets": taken.format("ticket")},
        ),
    }


def count_on(home: Path, n_newest: int, today: pd.Timestamp, yesterday: pd.Timestamp) -> None:
    """Move the newest events in the log to two days of the shop, as if they had come in time."""
    newest = "sequence > (select max(sequence) from events) - ?"
    with closing(sqlite3.connect(home / "events" / "log.db")) as log, log:
        for moment, day in ((NOW, today), (YESTERDAY, yesterday)):
            log.execute(
                "update events set rows = replace(rows, ?, ?), received_at = '2000-01-01T' || substr(received_at, 12) "
                f"where {newest}",
                [f"{moment:%Y-%m-%dT}", f"{day:%Y-%m-%dT}", n_newest],
            )
    (home / "events" / "through.parquet").unlink()  # the next build exports them again
