import json
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from builders import make_fixed_model

from inference.desk import timeline, what_if
from inference.desk.what_if import WhatIf
from inference.errors import ChurnRadarError
from inference.home import home
from inference.realtime.history import CustomerRows
from inference.realtime.shop import OnlineShop
from inference.registry.registry import RegisteredModel

NEW, OLD = date(2024, 3, 8), date(2024, 2, 20)


def write(name: str, table: pd.DataFrame, folder: str = "features") -> None:
    file = home() / folder / f"{name}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(file, index=False)


def moment(text: str) -> int:
    return int((datetime.fromisoformat(text) - datetime(1970, 1, 1)).total_seconds() * 1_000_000)


def packed(**tables: dict) -> str:
    """A row of online_histories; tables that are not given are empty."""
    names = ("orders", "items", "visit_days", "events", "reviews", "tickets", "contacts", "pooled")
    known = {"attributes": None, "last_visit_date": None}
    known |= {"first_order_date": None, "order_days": None, "orders_before": None}
    return json.dumps(known | dict.fromkeys(names) | tables)


ORDERS = {
    "order_id": ["o1", "o2"],
    "ordered_at": [moment("2024-01-05T10:00:00"), moment("2024-02-05T10:00:00")],
    "known_at": [moment("2024-01-05T10:00:00"), moment("2024-02-05T10:00:00")],
    "status": ["completed", "returned"],
    "amount": [25.5, 1200.0],
    "discount_amount": [None, 5.0],
    "has_coupon": [False, True],
    "items": [1, None],
    "category": ["garden", None],
}
REVIEWS = {
    "review_id": ["r1"],
    "text_id": ["reviews:r1"],
    "reviewed_at": [moment("2024-02-07T10:00:00")],
    "known_at": [moment("2024-02-07T10:00:00")],
    "rating": [2],
    "text": ["Write to me at a@b.de"],
    "subject": [None],
    "complaint_score": [0.5],
}
TICKETS = {
    "ticket_id": ["t1", "t2"],
    "text_id": [None, None],
    "opened_at": [moment("2024-02-08T10:00:00"), moment("2024-03-01T10:00:00")],
    "closed_at": [moment("2024-02-08T15:30:00"), None],
    "satisfaction": [None, None],
    "topic": ["delivery", None],
    "text": [None, None],
    "complaint_score": [None, None],
}


class TestTimeline:
    def test_events_are_listed_newest_first(self):
        history = packed(
            orders=ORDERS,
            visit_days={"occurred_at": [moment("2024-01-04T09:00:00")], "events": [1], "sessions": [1]},
            events={
                "event_id": ["e1", "e2"],
                "event_type": ["view", "search"],
                "occurred_at": [moment("2024-03-07T09:00:00"), moment("2024-03-07T21:00:00")],
            },
            reviews=REVIEWS,
            tickets=TICKETS,
            contacts={
                "touch_id": ["c1", "c2"],
                "action": ["coupon", "holdout"],
                "touched_at": [moment("2024-02-01T00:00:00"), moment("2024-02-02T00:00:00")],
                "redeemed_at": [moment("2024-02-03T00:00:00"), None],
            },
        )
        customer = CustomerRows.unpack(history, None)
        events = timeline.events(customer, {"reviews:r1": "Write to me at [e-mail]"})
        assert [(f"{row.happened_at:%m-%d %H}", row.kind, row.about) for row in events.itertuples()] == [
            ("03-07 21", "visit", "2 events"),
            ("03-01 10", "ticket", "still open"),
            ("02-08 10", "ticket", "delivery; closed after 5 hours"),
            ("02-07 10", "review", "2 of 5 “Write to me at [e-mail]”"),
            ("02-05 10", "order", "1,200.00, with a coupon, returned"),
            ("02-01 00", "contact", "coupon, redeemed"),
            ("01-05 10", "order", "25.50, 1 item, garden"),
            ("01-04 09", "visit", "1 event"),
        ]

    def test_texts_without_a_masked_quote_are_not_shown(self):
        (about,) = timeline.events(CustomerRows.unpack(packed(reviews=REVIEWS), None), {}).about
        assert about == "2 of 5"

    def test_a_customer_without_events_has_an_empty_table(self):
        events = timeline.events(CustomerRows(), {})
        assert list(events.columns) == ["happened_at", "kind", "about"]
        assert events.empty

    def test_rows_of_one_customer_are_read(self):
        assert timeline.history("anna") is None
        write(
            "online_histories",
            pd.DataFrame(
                {
                    "customer_id": ["anna", "bob"],
                    "history": [packed(), packed(orders=ORDERS, pooled={"text_id": ["t"]})],
                    "text_vectors": [None, [2.0]],
                }
            ),
        )
        write(
            "searchable_texts",
            pd.DataFrame({"customer_id": ["anna", "bob"], "text_id": ["x", "y"], "quote": ["late", "fine"]}),
        )
        bob = timeline.history("bob")
        assert (list(bob.orders), bob.vectors) == (["o1", "o2"], {"t": [2.0]})
        assert timeline.history("cleo") is None
        assert timeline.quotes("anna") == {"x": "late"}

    def test_of_each_date_the_last_score_counts(self):
        rows = [("anna", NEW, 1, 0.1), ("anna", NEW, 2, 0.9), ("anna", OLD, 1, 0.2), ("bob", NEW, 1, 0.3)]
        table = pd.DataFrame(rows, columns=["customer_id", "as_of_date", "hour", "churn_probability"])
        table["scored_at"] = pd.to_datetime(table.as_of_date) + pd.to_timedelta(table.hour, unit="h")
        write("churn_scores", table, "published")
        scores = timeline.scores("anna")
        assert list(zip(scores.as_of_date.dt.date, scores.churn_probability, strict=True)) == [
            (OLD, 0.2),
            (NEW, 0.9),
        ]


FACTS = {
    "as_of": str(NEW),
    "through": 0,
    "model_version": "2",
    "level_shift": 0.0,
    "percentiles": [0.0] * 101,
    "forecast": {"r": 1.0, "alpha": 30.0, "a": 1.0, "b": 3.0},
    "first_date": "2023-01-01",
    "encoder_revision": None,
    "tables": ["orders", "events", "reviews", "support_tickets"],
    "event_types": ["view", "cart_add"],
    "aspects": [],
    "aspect_descriptions": [],
    "horizon_days": 30,
    "history_days": 365,
    "activity_days": 90,
    "min_orders": 1,
    "pseudonymise": False,
    "complaint_from": 0.1,
    "bands": [0.2, 0.4, 0.7],
    "sequence_days": 180,
    "most_events": 32,
    "most_texts": 4,
}


class TestWhatIf:
    """A model that says one feature of a customer, so that what a change does to it can be read off."""

    @pytest.fixture
    def score_by_change(self, monkeypatch):
        engine = WhatIf(OnlineShop.unpack(json.dumps(FACTS)), RegisteredModel("2", make_fixed_model()))

        def ask(feature: str, history: str) -> dict[str, float]:
            """The feature's value by change; as it is under the name now."""
            computed = what_if.features_at

            def features_at(*arguments: object) -> dict:
                features = computed(*arguments)
                return features | {"signal": (features[feature] or 0.0) / 100}

            monkeypatch.setattr(what_if, "features_at", features_at)
            columns = ["customer_id", "history", "text_vectors"]
            write("online_histories", pd.DataFrame([("anna", history, None)], columns=columns))
            answer = engine.answer("anna")
            assert (answer.as_of, answer.model_version) == (NEW, "2")
            values = {"now": answer.churn_probability} | answer.changes
            return {what: round(100 * float(np.log(p / (1 - p))), 6) for what, p in values.items()}

        return ask

    def test_an_order_is_counted_and_only_then(self, score_by_change):
        by_change = score_by_change("orders_30d", packed(orders=ORDERS))
        ordered = "they had ordered yesterday what they ordered last (25.50)"
        assert by_change.pop(ordered) == 1
        assert set(by_change.values()) == {0}

    def test_silence_goes_on(self, score_by_change):
        by_change = score_by_change("days_since_last_order", packed(orders=ORDERS))
        assert by_change["now"] == 63
        assert by_change["they stay silent for 7 more days"] == 70
        assert by_change["they stay silent for 14 more days"] == 77

    def test_who_is_no_customer_after_more_silence_has_no_score_then(self, score_by_change):
        early = ORDERS | {"ordered_at": [moment("2023-12-15T10:00:00")] * 2}
        by_change = score_by_change("days_since_last_order", packed(orders=early | {"known_at": early["ordered_at"]}))
        assert [what for what in by_change if "silent" in what] == []

    def test_visits_open_tickets_and_complaints(self, score_by_change):
        history = packed(orders=ORDERS, reviews=REVIEWS, tickets=TICKETS)
        assert score_by_change("open_tickets", history)["their open ticket had been closed yesterday"] == 0
        assert score_by_change("open_tickets", history)["now"] == 1
        assert score_by_change("reviews_90d", history)["they had not written their review of 7 February"] == 0
        assert score_by_change("reviews_90d", history)["now"] == 1
        looked, carted = "they had looked at 3 pages", "and put a product in the cart"
        assert score_by_change("view_events_7d", history)[f"{looked} of the shop yesterday"] == 3
        assert score_by_change("cart_add_events_7d", history)[f"{looked} of the shop yesterday"] == 0
        assert score_by_change("cart_add_events_7d", history)[f"{looked} {carted}"] == 1
        assert score_by_change("sessions_7d", history)[f"{looked} {carted}"] == 1

    def test_asking_changes_nothing_of_the_customer(self, score_by_change):
        history = packed(orders=ORDERS, reviews=REVIEWS, tickets=TICKETS)
        before = CustomerRows.unpack(history, None)
        assert score_by_change("orders_90d", history)["now"] == score_by_change("orders_90d", history)["now"] == 1
        assert CustomerRows.unpack(history, None) == before

    def test_without_a_build_one_line_says_what_to_do(self):
        with pytest.raises(ChurnRadarError, match=r"online_shop\.parquet: no such file; run dbt build first"):
            WhatIf.load()

    def test_a_model_that_is_gone_is_one_line(self, model_registry):
        write("online_shop", pd.DataFrame({"facts": [json.dumps(FACTS)]}))
        with pytest.raises(ChurnRadarError, match="version 2 is not registered; expected one of"):
            WhatIf.load()
