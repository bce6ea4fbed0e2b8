"""Rows of raw tables as the events that would have reported them."""

import pandas as pd

from inference.event_log.events import Event

#: Raw tables with events, and the columns of their event times.
EVENT_TIMES = {
    "orders": "ordered_at",
    "events": "occurred_at",
    "reviews": "reviewed_at",
    "support_tickets": "opened_at",
}
KEYS = {"orders": "order_id", "events": "event_id", "reviews": "review_id", "support_tickets": "ticket_id"}
#: Columns that events contain.
COLUMNS = {
    "orders": ["order_id", "customer_id", "ordered_at", "amount", "status", "discount_amount", "coupon_code"],
    "order_items": ["order_id", "product_id", "quantity", "unit_price", "product_name", "category"],
    "events": ["event_id", "customer_id", "event_type", "occurred_at", "session_id", "product_id"],
    "reviews": ["review_id", "customer_id", "review_text", "reviewed_at", "product_id", "rating"],
    "support_tickets": [
        "ticket_id",
        "customer_id",
        "opened_at",
        "closed_at",
        "topic",
        "ticket_text",
        "satisfaction",
    ],
}


def split(tables: dict[str, pd.DataFrame], cut: pd.Timestamp) -> tuple[dict[str, pd.DataFrame], list[Event]]:
    """Rows before a time, and events for the rows from then on.

    Later contacts are left out, as there are no events for them.
    """
    tables = dict(tables)
    before, events = dict(tables), []
    touches = tables["campaign_touches"]
    touches = touches[touches.touched_at < cut]
    before["campaign_touches"] = touches.assign(redeemed_at=touches.redeemed_at.where(touches.redeemed_at < cut))
    items = tables["order_items"]
    late_orders = tables["orders"][tables["orders"].ordered_at >= cut].order_id
    before["order_items"] = items[~items.order_id.isin(late_orders)]
    items = dict(list(items[items.order_id.isin(late_orders)].groupby("order_id")))
    for table, event_time in EVENT_TIMES.items():
        rows = tables[table]
        late = rows[event_time] >= cut
        before[table] = rows[~late]
        for row in _records(rows[late], COLUMNS[table]):
            content = {table: [row]}
            if table == "orders" and row["order_id"] in items:
                content["order_items"] = _records(items[row["order_id"]], COLUMNS["order_items"])
            events.append(Event(f"{table} {row[KEYS[table]]}", row["customer_id"], content))
    return before, events


def _records(rows: pd.DataFrame, columns: list[str]) -> list[dict]:
    rows = rows[[column for column in columns if column in rows]]
    texts = rows.astype({c: str for c in rows if rows[c].dtype.kind == "M"}).astype(object)
    return texts.where(rows.notna(), None).to_dict("records")
