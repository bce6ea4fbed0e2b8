"""Features of one customer, from the rows of that customer alone, in about a millisecond.

``models/features`` computes the same features in SQL for all customers at a midnight; it is the definition. This copy
lets a score follow an event, and an integration test compares the two for every customer and snapshot of a shop.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeGuard

import numpy as np

#: Values by feature; None where unknown.
Features = dict[str, float | None]

#: Parts of a day, six hours each, with an order count of their own.
PARTS = ("night", "morning", "afternoon", "evening")


@dataclass(frozen=True)
class ShopFacts:
    """Facts about the shop that features depend on; the numbers are dbt vars, ``churn__horizon_days`` and so on."""

    horizon_days: int
    history_days: int
    complaint_from: float
    #: Raw tables that the shop has: features of the others are unknown, not zero.
    tables: frozenset[str]
    #: Columns, as ``table.column``, that the shop does not record: their features are unknown, not zero.
    unrecorded: frozenset[str]
    #: Date of the shop's first order.
    first_date: date | None
    #: Types of browsing events, and aspects of complaints, that have features of their own.
    event_types: tuple[str, ...]
    aspects: tuple[str, ...]

    def zero(self, table: str) -> float | None:
        """Return the count of a customer without rows: 0 where the shop has the table, else None."""
        return 0.0 if table in self.tables else None


@dataclass
class History:
    """Rows of one customer, as the dbt models hold them."""

    #: ``int_customer_orders`` by column, and ``int_customer_daily_events``: dates as ``datetime64[D]``, numbers as
    #: float64, and statuses as columns of 0 and 1.
    orders: Mapping[str, np.ndarray]
    visits: Mapping[str, np.ndarray]
    #: Items of the completed orders of the last 90 days: ``activity_date``, ``product_id``, ``category``, ``amount``.
    products: Mapping[str, np.ndarray]
    #: ``int_reviews`` and ``stg_support_tickets`` with the complaint scores of their texts, ``stg_campaign_touches``.
    reviews: Sequence[Mapping]
    tickets: Sequence[Mapping]
    contacts: Sequence[Mapping]
    #: ``int_customer_events`` and ``int_texts``.
    events: Sequence[Mapping]
    texts: Sequence[Mapping]
    #: First order before the history window, if any; else the first date in ``orders`` counts.
    first_order_date: date | None = None


def order_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """Compute ``order_features`` of one customer who has ordered before an as-of date, a midnight in UTC."""
    orders, ago = history.orders, _days_ago(history.orders, as_of)
    days = np.unique(orders["activity_date"][orders["completed"] > 0])
    first = history.first_order_date or days[0].item()
    since_last = float((as_of - days[-1].item()).days)
    n_orders = float(orders["completed"].sum())
    return {
        "days_since_last_order": since_last,
        "days_since_first_order": float((as_of - first).days),
        "months_since_first_order": float(12 * (as_of.year - first.year) + as_of.month - first.month),
        **_order_volume(orders, ago, as_of, shop),
        **_order_rhythm(days, since_last),
        "items_90d": _sum_known(orders["items"][ago <= 90]),
        "items_per_order": ratio(_sum_known(orders["items"]), n_orders),
        **_product_variety(history.products, as_of, shop),
        **_order_shares(orders, ago, shop),
    }


def _order_volume(orders: Mapping[str, np.ndarray], ago: np.ndarray, as_of: date, shop: ShopFacts) -> Features:
    """Orders and spend in windows, in all, and compared with the window before and with a year before."""
    n_orders, spend = float(orders["completed"].sum()), total(orders["spend"])
    features: Features = {
        "orders_total": n_orders,
        "spend_total": spend,
        "average_order_amount": ratio(spend, n_orders),
        "largest_order_amount": largest(orders["amount"]),
    }
    is_a_year_old = shop.first_date is not None and shop.first_date <= as_of - timedelta(days=365)
    for name, values in (("orders", orders["completed"]), ("spend", orders["spend"])):
        for window in (7, 30, 90, 180, 365):
            features[f"{name}_{window}d"] = _within(values, ago, window)
        for window in (30, 90):
            recent, before = _within(values, ago, window), _within(values, ago, 2 * window, window)
            # where more was refunded than paid, nothing was spent
            features[f"{name}_trend_{window}d"] = (max(recent, 0) + 1) / (max(before, 0) + 1)
        same_window = _within(values, ago, 365, 365 - shop.horizon_days)
        features[f"{name}_same_window_last_year"] = same_window if is_a_year_old else None
    return features


def _order_rhythm(days: np.ndarray, since_last: float) -> Features:
    """Gaps between dates with an order, in days."""
    gaps = np.diff(days).astype(float)
    n = len(gaps)
    mean_gap = float(gaps.mean()) if n else None
    # the sample standard deviation in one pass, as SQL computes it
    spread = math.sqrt((n * (gaps**2).sum() - gaps.sum() ** 2) / (n * (n - 1))) if n > 1 else None
    return {
        "gap_mean_days": mean_gap,
        "gap_std_days": spread,
        "gap_cv": ratio(spread, mean_gap),
        "gap_max_days": float(gaps.max()) if n else None,
        "last_gap_days": float(gaps[-1]) if n else None,
        "overdue_ratio": ratio(since_last, mean_gap),
    }


def _product_variety(products: Mapping[str, np.ndarray], as_of: date, shop: ShopFacts) -> Features:
    """How many products and categories were bought, and the share of the favourite category."""
    features, zero, spent = Features(), shop.zero("order_items"), dict[str, float]()
    ago = _days_ago(products, as_of) if products else np.zeros(0, int)
    for window in (30, 90):
        near = np.flatnonzero(ago <= window)
        for plural, column in (("products", "product_id"), ("categories", "category")):
            distinct = {products[column][i] for i in near} - {None}
            features[f"distinct_{plural}_{window}d"] = float(len(distinct)) or zero
    for i in np.flatnonzero(ago <= 90):
        if products["category"][i] is not None:
            spent[products["category"][i]] = spent.get(products["category"][i], 0.0) + products["amount"][i]
    amounts = list(spent.values())
    features["favourite_category_share_90d"] = ratio(total([max(amounts)]), total(amounts)) if amounts else None
    return features


def _order_shares(orders: Mapping[str, np.ndarray], ago: np.ndarray, shop: ShopFacts) -> Features:
    """Shares of orders by discount, coupon, outcome, weekday and part of the day."""
    completed, hours = orders["completed"], orders["hour_of_day"]
    n_orders, discount = float(completed.sum()), _sum_known(orders["discount_amount"])
    returned, cancelled = float(orders["returned"].sum()), float(orders["cancelled"].sum())
    placed = n_orders + returned + cancelled
    is_weekend = ((orders["activity_date"].astype("int64") + 3) % 7) >= 5  # 1970-01-01 was a Thursday
    parts = {part: float((hours // 6 == n).sum()) for n, part in enumerate(PARTS)}
    coupons = ratio(_within(orders["has_coupon"], ago, 90), _within(completed, ago, 90))
    return {
        "discount_share": None if discount is None else ratio(discount, discount + total(orders["spend"])),
        "coupon_order_share_90d": None if "orders.coupon_code" in shop.unrecorded else coupons,
        "returned_order_share": ratio(returned, placed),
        "cancelled_order_share": ratio(cancelled, placed),
        "weekend_order_share": ratio(float(completed[is_weekend].sum()), n_orders),
        **{f"{part}_order_share": ratio(orders_then, sum(parts.values())) for part, orders_then in parts.items()},
    }


def engagement_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """Compute ``engagement_features`` of one customer."""
    visits, zero, ago = history.visits, shop.zero("events"), _days_ago(history.visits, as_of)
    ordered = _days_ago(history.orders, as_of)[history.orders["completed"] > 0]
    views, orders_90d = visits["view_events"], float((ordered <= 90).sum())
    abandoned = np.setdiff1d(ago[(visits["cart_add_events"] > 0) & (ago <= 90)], ordered)

    def visit_days(days: int, after: int = 0) -> float:
        return float(((ago > after) & (ago <= days)).sum())

    counts = {f"{kind}_events": visits[f"{kind}_events"] for kind in (*shop.event_types, "other")}
    counts["sessions"] = visits["sessions"]
    counted: Features = {}
    for window in (7, 30, 90):
        counted |= {f"{name}_{window}d": _within(values, ago, window) for name, values in counts.items()}
        counted[f"visit_days_{window}d"] = visit_days(window)
        if "events.session_id" in shop.unrecorded:
            counted[f"sessions_{window}d"] = None
    counted["view_trend_30d"] = (_within(views, ago, 30) + 1) / (_within(views, ago, 60, 30) + 1)
    counted["visit_trend_30d"] = (visit_days(30) + 1) / (visit_days(60, 30) + 1)
    return {
        "days_since_last_visit": smallest(ago),
        **{name: None if zero is None else value for name, value in counted.items()},
        "abandoned_carts_30d": float((abandoned <= 30).sum()) or zero,
        "abandoned_carts_90d": float(len(abandoned)) or zero,
        "orders_per_cart_add_90d": ratio(orders_90d, _within(visits["cart_add_events"], ago, 90)),
        "orders_per_view_90d": ratio(orders_90d, _within(views, ago, 90)),
    }


def campaign_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """Compute ``campaign_features`` of one customer."""
    zero, midnight = shop.zero("campaign_touches"), at_midnight(as_of)
    contacts = [row for row in history.contacts if row["action"] != "holdout"]
    contacts = [row for row in contacts if _in_history(row["touched_at"], as_of, shop)]
    ago = [_age(row["touched_at"], as_of) for row in contacts]
    redeemed_at = [row["redeemed_at"] for row in contacts if row["redeemed_at"] and row["redeemed_at"] < midnight]
    redeemed = [_age(moment, as_of) for moment in redeemed_at]
    return {
        "contacts_30d": _n_recent(ago, 30) or zero,
        "contacts_90d": _n_recent(ago, 90) or zero,
        "redemptions_total": float(len(redeemed)) if contacts else zero,
        "redemptions_90d": _n_recent(redeemed, 90) if contacts else zero,
        "redemption_rate": ratio(float(len(redeemed)), float(len(contacts))),
        "days_since_last_redemption": smallest(redeemed),
        "days_since_last_contact": smallest(ago),
    }


def support_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """Compute ``support_features`` of one customer."""
    zero, midnight = shop.zero("support_tickets"), at_midnight(as_of)
    tickets = [row for row in history.tickets if _in_history(row["opened_at"], as_of, shop)]
    ago = [_age(row["opened_at"], as_of) for row in tickets]
    closed = [row for row in tickets if row["closed_at"] and row["closed_at"] < midnight]
    recent = [row for row, days in zip(tickets, ago, strict=True) if days <= 90]
    return {
        "tickets_30d": _n_recent(ago, 30) or zero,
        "tickets_90d": float(len(recent)) or zero,
        "open_tickets": float(len(tickets) - len(closed)) if tickets else zero,
        "hours_to_close_mean": mean((row["closed_at"] - row["opened_at"]).total_seconds() / 3600 for row in closed),
        "satisfaction_mean": mean(exact(row["satisfaction"]) for row in closed),
        "days_since_last_ticket": smallest(ago),
        **{f"ticket_{a}_complaint_90d": largest(row[f"{a}_score"] for row in recent) for a in shop.aspects},
        "ticket_complaint_90d": largest(row["complaint_score"] for row in recent),
    }


def review_features(history: History, as_of: date, shop: ShopFacts) -> Features:
    """Compute ``review_features`` of one customer."""
    zero, midnight = shop.zero("reviews"), at_midnight(as_of)
    reviews = [row for row in history.reviews if _in_history(row["reviewed_at"], as_of, shop)]
    reviews = [row for row in reviews if is_valid(row, row["loaded_at"] or row["reviewed_at"], midnight)]
    reviews.sort(key=lambda row: (row["reviewed_at"], row["review_id"]), reverse=True)
    ago = [_age(row["reviewed_at"], as_of) for row in reviews]
    recent = [row for row, days in zip(reviews, ago, strict=True) if days <= 90]
    ratings, complaints = ([exact(row[name]) for row in reviews] for name in ("rating", "complaint_score"))
    rating, complaint = (ratings[0], complaints[0]) if reviews else (None, None)
    complained = [
        days for days, score in zip(ago, complaints, strict=True) if score is not None and score >= shop.complaint_from
    ]
    return {
        "reviews_total": float(len(reviews)) or zero,
        "reviews_90d": float(len(recent)) or zero,
        "rating_mean": mean(ratings),
        "rating_last": rating,
        "rating_change": difference(rating, mean(ratings[1:])),
        "days_since_last_review": smallest(ago),
        "review_complaint_last": complaint,
        "review_complaint_90d": largest(exact(row["complaint_score"]) for row in recent),
        "review_complaint_change": difference(complaint, mean(complaints[1:])),
        **{f"review_{a}_complaint_90d": largest(row[f"{a}_score"] for row in recent) for a in shop.aspects},
        "days_since_last_review_complaint": smallest(complained),
        "rating_words_gap": None if rating is None or complaint is None else (rating - 3) / 2 + complaint,
    }


def at_midnight(day: date) -> datetime:
    """Return the moment (naive UTC) at which a date begins."""
    return datetime(day.year, day.month, day.day)


def is_valid(row: Mapping, known_at: datetime, midnight: datetime) -> bool:
    """Whether a row had arrived before a midnight, and no correction of it had."""
    return known_at < midnight and not (row["superseded_at"] and row["superseded_at"] < midnight)


# Arithmetic by SQL's rules: None and NaN are unknown and skipped; decimals add up without rounding errors.


def is_known(value: float | None) -> TypeGuard[float]:
    """Whether a value is neither None nor NaN."""
    return value is not None and value == value


def exact(value: float | None) -> float | None:
    """Round to four decimals, half away from zero, as the macro ``fixed_point`` casts; None where unknown."""
    return math.copysign(math.floor(abs(value) * 1e4 + 0.5) / 1e4, value) if is_known(value) else None


def known_values(values: Iterable) -> list[float]:
    """Return the known values as floats."""
    return [float(value) for value in values if is_known(value)]


def total(values: Sequence[float] | np.ndarray) -> float:
    """Add values of four decimals as SQL adds decimals."""
    return round(float(np.sum(values)), 4)


def mean(values: Iterable) -> float | None:
    """Return the mean of the known values; None without any."""
    known = known_values(values)
    return sum(known) / len(known) if known else None


def largest(values: Iterable) -> float | None:
    """Return the largest known value; None without any."""
    return max(known_values(values), default=None)


def smallest(values: Iterable) -> float | None:
    """Return the smallest known value; None without any."""
    return min(known_values(values), default=None)


def ratio(part: float | None, whole: float | None) -> float | None:
    """Divide; None where the part is unknown or the whole is 0 or unknown."""
    return None if part is None or not whole else part / whole


def difference(value: float | None, other: float | None) -> float | None:
    """Subtract; None where either is unknown."""
    return float(value) - other if is_known(value) and other is not None else None


def _days_ago(columns: Mapping[str, np.ndarray], as_of: date) -> np.ndarray:
    return (np.datetime64(as_of) - columns["activity_date"]).astype(int)


def _within(values: np.ndarray, ago: np.ndarray, days: int, after: int = 0) -> float:
    """Sum of the values of more than ``after`` and at most ``days`` days ago."""
    return total(values[(ago > after) & (ago <= days)])


def _sum_known(values: np.ndarray) -> float | None:
    known = known_values(values)
    return total(known) if known else None


def _age(moment: datetime, as_of: date) -> int:
    return (as_of - moment.date()).days


def _in_history(moment: datetime, as_of: date, shop: ShopFacts) -> bool:
    return moment < at_midnight(as_of) and _age(moment, as_of) <= shop.history_days


def _n_recent(ages: Sequence[int], days: int) -> float:
    return float(sum(age <= days for age in ages))
