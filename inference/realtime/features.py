"""The features of one customer, from the rows of that customer alone.

What ``models/features`` computes for all customers at a midnight, for one customer in a millisecond, so that a score
can follow an event. The SQL is the definition; a test compares the two for every customer and snapshot of a shop.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import itemgetter

import numpy as np

#: Values by feature; None where nothing is known.
Features = dict[str, float | None]

#: Order counts of a day that are added up; ``parts`` of the day are shares of all orders.
PARTS = ("night", "morning", "afternoon", "evening")


@dataclass(frozen=True)
class ShopFacts:
    """What features need to know of the shop.

    Parameters
    ----------
    horizon_days, history_days : int
        The dbt vars ``churn__horizon_days`` and ``churn__history_days``.
    complaint_from : float
        The dbt var of that name.
    tables : frozenset of str
        Raw tables that the shop has: features of the others are unknown, not zero.
    first_date : date or None
        The first day of which an order has arrived.
    event_types, aspects : tuple of str
        Kinds of browsing events with a count of their own, and of complaints.
    """

    horizon_days: int
    history_days: int
    complaint_from: float
    tables: frozenset[str]
    first_date: date | None
    event_types: tuple[str, ...]
    aspects: tuple[str, ...]

    def zero(self, table: str) -> float | None:
        """Return what it means that a customer has no row: 0 where the shop has the table."""
        return 0.0 if table in self.tables else None


@dataclass(frozen=True)
class SequenceShape:
    """How far back the transformer reads, and how many events and texts: the macros of these names."""

    days: int
    most_events: int
    most_texts: int


@dataclass
class History:
    """Rows of one customer, as the models of the same names have them; columns by name, one array each.

    Parameters
    ----------
    daily : mapping of str to ndarray
        ``int_customer_daily_activity``; dates as ``datetime64[D]``, counts and amounts as float64.
    products : mapping of str to ndarray
        ``int_customer_daily_products``: ``activity_date``, ``product_id``, ``category``, ``amount``.
    reviews, tickets, contacts : sequence of mappings
        ``stg_reviews`` and ``stg_support_tickets`` with the complaint scores of their texts, ``stg_campaign_touches``.
    events, texts : sequence of mappings
        ``int_customer_events`` and ``int_texts``.
    first_order_date : date, optional
        Of orders before the history window; the first day with an order of ``daily`` where there is none.
    """

    daily: Mapping[str, np.ndarray]
    products: Mapping[str, np.ndarray] = field(default_factory=dict)
    reviews: Sequence[Mapping] = ()
    tickets: Sequence[Mapping] = ()
    contacts: Sequence[Mapping] = ()
    events: Sequence[Mapping] = ()
    texts: Sequence[Mapping] = ()
    first_order_date: date | None = None


def order_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """``order_features`` of one customer who has ordered.

    Parameters
    ----------
    history : History
        Rows known at the as-of date.
    as_of : date
        Midnight (UTC), exclusive.
    shop : ShopFacts
        Settings.

    Returns
    -------
    dict
        Features by name.
    """
    daily = history.daily
    ago = (np.datetime64(as_of) - daily["activity_date"]).astype(int)
    orders, amount = daily["orders"], daily["amount"]

    def within(values: np.ndarray, days: int, after: int = 0) -> float:
        return _total(values[(ago > after) & (ago <= days)])

    total, spend = float(orders.sum()), _total(amount)
    days = np.unique(daily["activity_date"][orders > 0])
    first, last = np.datetime64(history.first_order_date or days[0], "D"), days[-1]
    found: Features = {
        "days_since_last_order": float((np.datetime64(as_of) - last).astype(int)),
        "days_since_first_order": float((np.datetime64(as_of) - first).astype(int)),
        "months_since_first_order": _months(first.astype(object), as_of),
    }
    for window in (7, 30, 90, 180, 365):
        found[f"orders_{window}d"] = within(orders, window)
        found[f"spend_{window}d"] = within(amount, window)
    found |= {
        "orders_total": total,
        "spend_total": spend,
        "average_order_amount": _ratio(spend, total),
        "largest_order_amount": _largest(daily["largest_order_amount"]),
        "orders_trend_30d": (found["orders_30d"] + 1) / (within(orders, 60, 30) + 1),
        "orders_trend_90d": (found["orders_90d"] + 1) / (within(orders, 180, 90) + 1),
        "spend_trend_30d": (found["spend_30d"] + 1) / (within(amount, 60, 30) + 1),
        "spend_trend_90d": (found["spend_90d"] + 1) / (within(amount, 180, 90) + 1),
    }
    a_year_old = shop.first_date is not None and shop.first_date <= as_of - timedelta(days=365)
    for name, values in (("orders", orders), ("spend", amount)):
        same = within(values, 365, 365 - shop.horizon_days)
        found[f"{name}_same_window_last_year"] = same if a_year_old else None
    found |= _rhythm(days, found["days_since_last_order"])
    items = daily["items"]
    found |= {
        "items_90d": _sum(items[ago <= 90]),
        "items_per_order": _ratio(_sum(items), total),
    }
    found |= _variety(history.products, as_of, shop)
    discount, returned, cancelled = (
        _sum(daily["discount_amount"]),
        float(daily["returned_orders"].sum()),
        float(daily["cancelled_orders"].sum()),
    )
    placed = total + returned + cancelled
    weekend = ((daily["activity_date"].astype("int64") + 3) % 7) >= 5
    found |= {
        "discount_share": None if discount is None else _ratio(discount, discount + spend),
        "coupon_order_share_90d": _ratio(within(daily["coupon_orders"], 90), found["orders_90d"]),
        "returned_order_share": _ratio(returned, placed),
        "cancelled_order_share": _ratio(cancelled, placed),
        "weekend_order_share": _ratio(float(orders[weekend].sum()), total),
    }
    return found | {f"{part}_order_share": _ratio(float(daily[f"{part}_orders"].sum()), total) for part in PARTS}


def engagement_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """``engagement_features`` of one customer; parameters as of ``order_features``."""
    daily, zero = history.daily, shop.zero("events")
    ago = (np.datetime64(as_of) - daily["activity_date"]).astype(int)
    orders, visited = daily["orders"], daily["events"] > 0

    def visit_days(days: int, after: int = 0) -> float:
        return float(len(np.unique(ago[visited & (ago > after) & (ago <= days)])))

    def within(values: np.ndarray, days: int, after: int = 0) -> float:
        return float(values[(ago > after) & (ago <= days)].sum())

    found: Features = {"days_since_last_visit": _least(ago[visited])}
    for window in (7, 30, 90):
        near = ago <= window
        counts = {f"{kind}_events": daily[f"{kind}_events"] for kind in (*shop.event_types, "other")}
        counts["sessions"] = daily["sessions"]
        for name, values in counts.items():
            found[f"{name}_{window}d"] = _plus(zero, float(values[near].sum()))
        found[f"visit_days_{window}d"] = _plus(zero, visit_days(window))
    carts = np.unique(ago[(daily["cart_add_events"] > 0) & (ago <= 90)])
    abandoned = np.setdiff1d(carts, ago[orders > 0])
    views, orders_90d = daily["view_events"], within(orders, 90)
    return found | {
        "abandoned_carts_30d": float((abandoned <= 30).sum()) or zero,
        "abandoned_carts_90d": float(len(abandoned)) or zero,
        "orders_per_cart_add_90d": _ratio(orders_90d, within(daily["cart_add_events"], 90)),
        "orders_per_view_90d": _ratio(orders_90d, within(views, 90)),
        "view_trend_30d": _plus(zero, (within(views, 30) + 1) / (within(views, 60, 30) + 1)),
        "visit_trend_30d": _plus(zero, (visit_days(30) + 1) / (visit_days(60, 30) + 1)),
    }


def campaign_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """``campaign_features`` of one customer; parameters as of ``order_features``."""
    zero = shop.zero("campaign_touches")
    known = [
        row for row in history.contacts if row["action"] != "holdout" and _happened(row["touched_at"], as_of, shop)
    ]
    ago = [_days(row["touched_at"], as_of) for row in known]
    midnight = _midnight(as_of)
    redeemed = [
        _days(row["redeemed_at"], as_of) for row in known if row["redeemed_at"] and row["redeemed_at"] < midnight
    ]
    return {
        "contacts_30d": _count(days <= 30 for days in ago) or zero,
        "contacts_90d": _count(days <= 90 for days in ago) or zero,
        "redemptions_total": float(len(redeemed)) if known else zero,
        "redemptions_90d": _count(days <= 90 for days in redeemed) if known else zero,
        "redemption_rate": _ratio(float(len(redeemed)), float(len(known))),
        "days_since_last_redemption": _least(redeemed),
        "days_since_last_contact": _least(ago),
    }


def support_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """``support_features`` of one customer; parameters as of ``order_features``."""
    zero, midnight = shop.zero("support_tickets"), _midnight(as_of)
    known = [row for row in history.tickets if _happened(row["opened_at"], as_of, shop)]
    ago = [_days(row["opened_at"], as_of) for row in known]
    closed = [row for row in known if row["closed_at"] and row["closed_at"] < midnight]
    recent = [row for row, days in zip(known, ago, strict=True) if days <= 90]
    return {
        "tickets_30d": _count(days <= 30 for days in ago) or zero,
        "tickets_90d": float(len(recent)) or zero,
        "open_tickets": float(len(known) - len(closed)) if known else zero,
        "hours_to_close_mean": _mean((row["closed_at"] - row["opened_at"]).total_seconds() / 3600 for row in closed),
        "satisfaction_mean": _mean(exact(row["satisfaction"]) for row in closed),
        "days_since_last_ticket": _least(ago),
        **{f"ticket_{a}_complaint_90d": _largest(row[f"{a}_score"] for row in recent) for a in shop.aspects},
        "ticket_complaint_90d": _largest(row["complaint_score"] for row in recent),
    }


def review_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """``review_features`` of one customer; parameters as of ``order_features``."""
    zero, midnight = shop.zero("reviews"), _midnight(as_of)
    known = [
        row
        for row in history.reviews
        if _happened(row["reviewed_at"], as_of, shop) and _held(row, row["loaded_at"] or row["reviewed_at"], midnight)
    ]
    known.sort(key=lambda row: (row["reviewed_at"], row["review_id"]), reverse=True)
    ago = [_days(row["reviewed_at"], as_of) for row in known]
    recent = [row for row, days in zip(known, ago, strict=True) if days <= 90]
    ratings, complaints = ([exact(row[name]) for row in known] for name in ("rating", "complaint_score"))
    rating_last, complaint_last = ratings[0] if known else None, complaints[0] if known else None
    complained = [
        days
        for days, score in zip(ago, complaints, strict=True)
        if not _unknown(score) and score >= shop.complaint_from
    ]
    return {
        "reviews_total": float(len(known)) or zero,
        "reviews_90d": float(len(recent)) or zero,
        "rating_mean": _mean(ratings),
        "rating_last": None if _unknown(rating_last) else float(rating_last),
        "rating_change": _minus(rating_last, _mean(ratings[1:])),
        "days_since_last_review": _least(ago),
        "review_complaint_last": None if _unknown(complaint_last) else float(complaint_last),
        "review_complaint_90d": _largest(exact(row["complaint_score"]) for row in recent),
        "review_complaint_change": _minus(complaint_last, _mean(complaints[1:])),
        **{f"review_{a}_complaint_90d": _largest(row[f"{a}_score"] for row in recent) for a in shop.aspects},
        "days_since_last_review_complaint": _least(complained),
        "rating_words_gap": None
        if _unknown(rating_last) or _unknown(complaint_last)
        else (float(rating_last) - 3) / 2 + float(complaint_last),
    }


def sequence_features(history: History, as_of: date, shape: SequenceShape) -> dict[str, list | None]:
    """``sequence_features`` of one customer: newest events and texts first.

    Parameters
    ----------
    history : History
        Rows of the customer.
    as_of : date
        Midnight (UTC), exclusive.
    shape : SequenceShape
        How far back, and how many.

    Returns
    -------
    dict
        Lists of one length each; None where there is no event, or no text.
    """
    midnight = _midnight(as_of)

    def newest(rows: Sequence[Mapping], happened: str, most: int, tie: Callable) -> list[tuple[Mapping, float]]:
        since = midnight - timedelta(days=shape.days)
        known = [row for row in rows if since <= row[happened] < midnight and _held(row, row["known_at"], midnight)]
        known.sort(key=tie)
        known.sort(key=lambda row: row[happened], reverse=True)
        return [(row, (midnight - row[happened]).total_seconds() / 86400) for row in known[:most]]

    def read_of(row: Mapping) -> tuple:
        return row["event_type"], row["category"] or "", row["amount"] or 0.0

    events = newest(history.events, "occurred_at", shape.most_events, read_of)
    texts = newest(history.texts, "written_at", shape.most_texts, itemgetter("text_id"))
    found = {
        "event_types": [row["event_type"] for row, _ in events],
        "event_categories": [row["category"] or "" for row, _ in events],
        "event_days_ago": [days for _, days in events],
        "event_amounts": [row["amount"] or 0.0 for row, _ in events],
        "text_ids": [row["text_id"] for row, _ in texts],
        "texts": [row["text"][:2000] for row, _ in texts],
        "text_subjects": [row["subject"] or "" for row, _ in texts],
        "text_days_ago": [days for _, days in texts],
        "text_ratings": [row["rating"] or 0.0 for row, _ in texts],
    }
    return {name: values or None for name, values in found.items()}


def _held(row: Mapping, known_at: datetime, midnight: datetime) -> bool:
    # from its arrival until a correction of it arrives
    return known_at < midnight and not (row["superseded_at"] and row["superseded_at"] < midnight)


def _rhythm(days: np.ndarray, since_last: float) -> Features:
    gaps = np.diff(days).astype(float)
    n = len(gaps)
    mean = float(gaps.mean()) if n else None
    spread = math.sqrt((n * (gaps**2).sum() - gaps.sum() ** 2) / (n * (n - 1))) if n > 1 else None
    return {
        "gap_mean_days": mean,
        "gap_std_days": spread,
        "gap_cv": None if spread is None else _ratio(spread, mean),
        "gap_max_days": float(gaps.max()) if n else None,
        "last_gap_days": float(gaps[-1]) if n else None,
        "overdue_ratio": None if mean is None else _ratio(since_last, mean),
    }


def _variety(products: Mapping[str, np.ndarray], as_of: date, shop: ShopFacts) -> Features:
    zero, spent, found = shop.zero("order_items"), {}, {}
    ago = (np.datetime64(as_of) - products["activity_date"]).astype(int) if products else np.zeros(0, int)
    for window in (30, 90):
        near = np.flatnonzero(ago <= window)
        for plural, column in (("products", "product_id"), ("categories", "category")):
            values = {products[column][i] for i in near} - {None}
            found[f"distinct_{plural}_{window}d"] = float(len(values)) or zero
    for i in np.flatnonzero(ago <= 90):
        if products["category"][i] is not None:
            spent[products["category"][i]] = spent.get(products["category"][i], 0.0) + products["amount"][i]
    found["favourite_category_share_90d"] = (
        _ratio(_total([max(spent.values())]), _total(list(spent.values()))) if spent else None
    )
    return found


def _months(first: date, as_of: date) -> float:
    return float((as_of.year - first.year) * 12 + as_of.month - first.month)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def _days(moment: datetime, as_of: date) -> int:
    return (as_of - moment.date()).days


def _happened(moment: datetime, as_of: date, shop: ShopFacts) -> bool:
    return moment < _midnight(as_of) and _days(moment, as_of) <= shop.history_days


def _unknown(value: float | None) -> bool:
    return value is None or value != value


def exact(value: float | None) -> float | None:
    """Round to four decimals, half away from zero, as the macro ``exact`` casts; None stays None."""
    return None if _unknown(value) else math.copysign(math.floor(abs(value) * 1e4 + 0.5) / 1e4, value)


def _known(values: Iterable) -> list[float]:
    return [float(value) for value in values if not _unknown(value)]


def _sum(values: Iterable) -> float | None:
    known = _known(values)
    return _total(known) if known else None


def _total(values: Sequence[float]) -> float:
    # of numbers with four decimals, as SQL adds them: without the error of floats
    return round(float(np.sum(values)), 4)


def _mean(values: Iterable) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _largest(values: Iterable) -> float | None:
    return max(_known(values), default=None)


def _least(values: Iterable) -> float | None:
    return min(_known(values), default=None)


def _count(holds: Iterable[bool]) -> float:
    return float(sum(holds))


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole


def _plus(zero: float | None, value: float) -> float | None:
    return None if zero is None else value


def _minus(value: float | None, other: float | None) -> float | None:
    return None if _unknown(value) or other is None else float(value) - other
