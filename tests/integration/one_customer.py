"""Histories of single customers from a warehouse, in the form that inference/realtime/features.py reads."""

from collections.abc import Iterator
from datetime import date

import duckdb
import numpy as np
import pandas as pd

from inference.realtime.features import (
    Features,
    History,
    ShopFacts,
    campaign_features,
    engagement_features,
    order_features,
    review_features,
    support_features,
)
from inference.realtime.sequences import SequenceShape, sequence_features

TABLES = ("orders", "order_items", "events", "reviews", "support_tickets", "campaign_touches")
BEHAVIOUR = {
    "order_features": order_features,
    "engagement_features": engagement_features,
    "campaign_features": campaign_features,
    "support_features": support_features,
    "review_features": review_features,
}
#: Statuses as columns of 0 and 1, and what only completed orders count.
ORDERS = """
    select
        customer_id, activity_date, arrived_date, superseded_date,
        (status = 'completed')::int as completed,
        (status = 'cancelled')::int as cancelled,
        (status = 'returned')::int as returned,
        (status = 'completed' and has_coupon)::int as has_coupon,
        case when status in ('completed', 'refund') then amount::decimal(18, 4) else 0 end as spend,
        case when status = 'completed' then amount end as amount,
        case when status = 'completed' then discount_amount::decimal(18, 4) end as discount_amount,
        case when status = 'completed' then items end as items,
        case when status = 'completed' then hour_of_day end as hour_of_day
    from int_customer_orders
"""
LISTS = {
    "reviews": "select reviews.*, scores.* exclude (customer_id, text_id) from (select *, 'reviews:' || review_id || "
    "case when version > 1 then '#' || version else '' end as text_id from int_reviews) as reviews "
    "left join review_embeddings as scores using (text_id)",
    "tickets": "select tickets.*, scores.* exclude (customer_id, text_id) from stg_support_tickets as tickets "
    "left join review_embeddings as scores on 'support_tickets:' || ticket_id = text_id",
    "contacts": "from stg_campaign_touches",
    "events": "from int_customer_events",
    "texts": "from int_texts",
}


class Warehouse:
    """A warehouse that was built, read customer by customer."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: dict) -> None:
        self.connection, self.settings = connection, settings
        numbers = {
            "orders": ORDERS,
            "visits": "select * exclude (last_event_at), activity_date as arrived_date, null::date as superseded_date "
            "from int_customer_daily_events",
            "products": "select customer_id, activity_date, arrived_date, superseded_date, product_id, lines.category, "
            "(quantity * unit_price)::decimal(18, 4) as amount from int_customer_orders "
            "join stg_order_items as lines using (order_id) where status = 'completed'",
        }
        self.arrays = {name: self._grouped(query, _columns) for name, query in numbers.items()}
        self.empty = {name: _columns(connection.sql(f"from ({query}) limit 0").df()) for name, query in numbers.items()}
        self.lists = {name: self._grouped(query, _records) for name, query in LISTS.items()}
        self.first_dates = connection.sql(
            "select arrived_date, min(activity_date) as first_date from int_customer_orders group by arrived_date"
        ).df()
        scores = [c for c in connection.sql("from review_embeddings limit 0").columns if c.endswith("_score")]
        self.aspects = tuple(c.removesuffix("_score") for c in scores if c != "complaint_score")
        counts = [c for c in connection.sql("from int_customer_daily_events limit 0").columns if c.endswith("_events")]
        self.event_types = tuple(c.removesuffix("_events") for c in counts if c != "other_events")

    def _grouped(self, query: str, kept: callable) -> dict:
        rows = self.connection.sql(query).df()
        return {customer: kept(group) for customer, group in rows.groupby("customer_id")}

    def history(self, customer: str, as_of: date, history_days: int) -> History:
        """Return the history of a customer as known at a date."""
        days = {"orders": history_days, "visits": history_days, "products": 90}
        return History(
            **{name: _known(self.arrays[name].get(customer, self.empty[name]), as_of, days[name]) for name in days},
            **{name: rows.get(customer, ()) for name, rows in self.lists.items()},
        )

    def facts(self, as_of: date) -> ShopFacts:
        """Return the facts about the shop as known at a date."""
        arrived = self.first_dates[self.first_dates.arrived_date < pd.Timestamp(as_of)]
        first_date = None if arrived.empty else arrived.first_date.min().date()
        return ShopFacts(
            **self.settings,
            tables=frozenset(TABLES),
            unrecorded=frozenset(),
            first_date=first_date,
            event_types=self.event_types,
            aspects=self.aspects,
        )


def differences(warehouse: Warehouse, history_days: int, shape: SequenceShape) -> Iterator[tuple[str, str, date, str]]:
    """Yield differences above 1e-9 and values missing on one side: table, customer, as-of date and feature."""
    for table in (*BEHAVIOUR, "sequence_features"):
        for row in warehouse.connection.sql(f"from {table}").df().to_dict("records"):
            customer, as_of = row.pop("customer_id"), row.pop("as_of_date").date()
            history = warehouse.history(customer, as_of, history_days)
            computed: Features = (
                sequence_features(history, as_of, shape)
                if table == "sequence_features"
                else BEHAVIOUR[table](history, as_of, warehouse.facts(as_of))
            )
            assert set(computed) == set(row), table
            yield from ((table, customer, as_of, name) for name in row if not _same(row[name], computed[name]))


def _same(one: object, other: object) -> bool:
    if isinstance(other, list):
        if not isinstance(one, np.ndarray) or len(one) != len(other):
            return False
        return list(one) == other or (one.dtype.kind == "f" and np.allclose(one, np.float32(other)))
    if one is None or pd.isna(one) or other is None:
        return other is None and (one is None or bool(pd.isna(one)))
    return abs(float(one) - other) <= 1e-9 * max(1.0, abs(other))


def _columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    kept = {}
    for name in rows.columns.drop("customer_id"):
        if name.endswith("_date"):
            kept[name] = rows[name].to_numpy("datetime64[D]")
        elif name in ("product_id", "category"):
            kept[name] = rows[name].astype(object).where(rows[name].notna(), None).to_numpy()
        else:
            kept[name] = rows[name].astype(float).to_numpy()
    return kept


def _records(rows: pd.DataFrame) -> list[dict]:
    rows = rows.astype(object).where(rows.notna(), None)
    return [
        {k: v.to_pydatetime() if isinstance(v, pd.Timestamp) else v for k, v in row.items()}
        for row in rows.to_dict("records")
    ]


def _known(arrays: dict[str, np.ndarray], as_of: date, days: int) -> dict[str, np.ndarray]:
    midnight = np.datetime64(as_of)
    known = (arrays["activity_date"] < midnight) & (arrays["arrived_date"] < midnight)
    known &= ~(arrays["superseded_date"] < midnight) & (arrays["activity_date"] >= midnight - days)
    return {name: values[known] for name, values in arrays.items()}
