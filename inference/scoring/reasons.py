"""Reasons of a score: plain sentences with the customer's own numbers.

Contributions of features about the same thing are summed by theme before they are compared; each theme has one
sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np
import pandas as pd

from inference.features.attributes import PREFIX
from inference.model.sequences import Columns
from inference.text.aspects import ASPECTS

Row = Mapping[str, float]


@dataclass(frozen=True)
class Theme:
    """Features about the same thing, and a sentence about them."""

    name: str
    #: Feature names or shell patterns of them, separated by spaces.
    patterns: str
    #: Builds the sentence from the known features of a row; None where there is nothing to report. It may raise
    #: KeyError for an unknown feature, which counts as None.
    sentence: Callable[[Row], str | None]

    def describe(self, row: Row) -> str | None:
        """Build the sentence; None where the row lacks a number that it needs."""
        try:
            return self.sentence(row)
        except KeyError:
            return None


def count(number: float, noun: str) -> str:
    """Number and noun in singular or plural, such as '1 order' or '2 orders'."""
    return f"{number:,.0f} {noun}" + ("" if round(number) == 1 else "s")


def _rhythm(row: Row) -> str:
    text = f"last order {count(row['days_since_last_order'], 'day')} ago"
    if "gap_mean_days" not in row:
        return text + "; only one day with an order so far"
    usual = row["gap_mean_days"]
    if "gap_std_days" not in row:
        return text + f"; the pause before it was {count(usual, 'day')}"
    return text + (f"; usually every {usual:.0f}" if usual >= 1.5 else "; usually every day")


def _trend(row: Row) -> str:
    # the feature is (now + 1) / (before + 1)
    before = (row["orders_30d"] + 1) / row["orders_trend_30d"] - 1
    return f"{count(row['orders_30d'], 'order')} in the last 30 days, {before:.0f} in the 30 before"


def _spend(row: Row) -> str:
    text = f"spent {row['spend_90d']:,.2f} in the last 90 days"
    if "average_order_amount" in row:
        text += f"; {row['average_order_amount']:,.2f} per order so far"
    return text


def _tenure(row: Row) -> str:
    days = row["days_since_first_order"]
    return f"first order {count(days, 'day')} ago" if days < 60 else f"first order {days / 30.44:.0f} months ago"


def _basket(row: Row) -> str:
    text = f"{count(row['distinct_products_90d'], 'different product')} in the last 90 days"
    if "items_per_order" in row:
        text += f"; {count(row['items_per_order'], 'item')} per order so far"
    return text


def _discounts(row: Row) -> str | None:
    parts = []
    if "discount_share" in row:
        parts.append(f"{row['discount_share']:.0%} discount")
    if "coupon_order_share_90d" in row:
        parts.append(f"coupons on {row['coupon_order_share_90d']:.0%} of recent orders")
    return ", ".join(parts) or None


def _timing(row: Row) -> str:
    parts = ("night", "morning", "afternoon", "evening")
    favourite = max(parts, key=lambda part: row[f"{part}_order_share"])
    share = row[f"{favourite}_order_share"]
    return f"{row['weekend_order_share']:.0%} of orders at the weekend, {share:.0%} in the {favourite}"


def _visits(row: Row) -> str | None:
    if "visit_days_30d" not in row:
        return None
    if "days_since_last_visit" not in row:
        return "no visit on record"
    before = (row["visit_days_30d"] + 1) / row["visit_trend_30d"] - 1
    return (
        f"last visit {count(row['days_since_last_visit'], 'day')} ago; "
        f"{row['visit_days_30d']:.0f} days with a visit in the last 30, {before:.0f} in the 30 before"
    )


def _carts(row: Row) -> str:
    return (
        f"{count(row['cart_add_events_30d'], 'item')} put in the cart in the last 30 days, "
        f"{count(row['abandoned_carts_30d'], 'cart')} left behind"
    )


def _reviews(row: Row) -> str:
    if row["reviews_total"] == 0:
        return "never wrote a review"
    text = f"last review {count(row['days_since_last_review'], 'day')} ago"
    return text + (f", {count(row['rating_last'], 'star')}" if "rating_last" in row else "")


def _words(row: Row) -> str | None:
    def worst(source: str) -> str:
        return max(ASPECTS, key=lambda aspect: row.get(f"{source}_{aspect}_complaint_90d", -np.inf))

    if "days_since_last_review_complaint" in row and row["days_since_last_review_complaint"] <= 90:
        days = count(row["days_since_last_review_complaint"], "day")
        return f"complained about {worst('review')} in a review, last {days} ago"
    if "ticket_complaint_90d" in row:
        return f"wrote to support about {worst('ticket')} in the last 90 days"
    return None


def _support(row: Row) -> str:
    if row["tickets_90d"] == 0 and row["open_tickets"] == 0:
        return "no support ticket in the last 90 days"
    text = f"{count(row['tickets_90d'], 'support ticket')} in the last 90 days"
    return text + (f", {row['open_tickets']:.0f} still open" if row["open_tickets"] else "")


def _campaigns(row: Row) -> str:
    text = f"{count(row['contacts_90d'], 'campaign contact')} in the last 90 days"
    if "redemption_rate" in row:
        text += f"; redeemed {row['redemption_rate']:.0%} of all"
    return text


def _attributes(row: Row) -> str | None:
    parts = []
    for feature, value in row.items():
        name, _, category = feature.removeprefix(PREFIX).partition("=")
        if feature.startswith(PREFIX) and (value == 1 or not category):
            parts.append(f"{name.replace('_', ' ')} {category or f'{value:,.4g}'}")
    return ", ".join(parts[:3]) or None


#: A feature belongs to the first theme that covers it. ``*`` stands for any characters.
THEMES = (
    Theme(
        "rhythm",
        "days_since_last_order overdue_ratio gap_* last_gap_days no_order_* alive_* expected_orders "
        "transformer_events transformer_numbers",
        _rhythm,
    ),
    Theme("trend", "orders_trend_* spend_trend_*", _trend),
    Theme(
        "season",
        "*_same_window_last_year",
        lambda row: f"{count(row['orders_same_window_last_year'], 'order')} in the same weeks last year",
    ),
    Theme("carts", "cart_* abandoned_carts_* orders_per_cart_add_*", _carts),
    Theme(
        "visits",
        "days_since_last_visit visit_* sessions_* view_* search_* wishlist_* login_* other_events_* orders_per_view_*",
        _visits,
    ),
    Theme(
        "frequency",
        "orders_*d orders_total",
        lambda row: f"{count(row['orders_90d'], 'order')} in the last 90 days, {row['orders_30d']:.0f} in the last 30",
    ),
    Theme("spend", "spend_* average_order_amount largest_order_amount", _spend),
    Theme("tenure", "days_since_first_order months_since_first_order", _tenure),
    Theme("basket", "items_* distinct_* favourite_category_share_*", _basket),
    Theme("discounts", "discount_share coupon_order_share_*", _discounts),
    Theme(
        "returns",
        "returned_order_share cancelled_order_share",
        lambda row: (
            f"{row['returned_order_share']:.0%} of orders returned, {row['cancelled_order_share']:.0%} cancelled"
        ),
    ),
    Theme("timing", "*_order_share", _timing),
    Theme(
        "words",
        "review_complaint_* review_*_complaint_90d days_since_last_review_complaint rating_words_gap "
        "ticket_*complaint_90d words_logit texts_60d lexical_words transformer_words",
        _words,
    ),
    Theme("reviews", "review* rating_* days_since_last_review", _reviews),
    Theme("support", "tickets_* open_tickets hours_to_close_mean satisfaction_mean days_since_last_ticket", _support),
    Theme("campaigns", "contacts_* redemption* days_since_last_redemption days_since_last_contact", _campaigns),
    Theme("attributes", f"{PREFIX}*", _attributes),
)


@lru_cache(maxsize=4096)
def theme_of(feature: str) -> Theme:
    """Return the theme of a feature; a feature that no theme covers is a theme of its own."""
    for theme in THEMES:
        if any(fnmatchcase(feature, pattern) for pattern in theme.patterns.split()):
            return theme
    return Theme(f"feature {feature}", feature, lambda row: f"{feature.replace('_', ' ')}: {row[feature]:,.4g}")


def reasons(
    features: Columns,
    contributions: pd.DataFrame,
    quote: Callable[[np.ndarray, np.ndarray], list[str | None]] | None = None,
    n_reasons: int = 3,
) -> list[list[str]]:
    """Explain what moved each score away from the base value, strongest theme first.

    Parameters
    ----------
    features : DataFrame or mapping
        Numbers for the sentences, null where unknown.
    contributions : DataFrame of shape (n_customers, n_contributions)
        Contribution of each feature to the score, in log-odds.
    quote : callable, optional
        Returns a quote per customer from positions and directions (1 raises, -1 lowers); called only for customers
        whose words are among the strongest reasons, because it is slow.

    Returns
    -------
    list of list of str
        At most ``n_reasons`` sentences per customer: about what raises a score above the base value, or lowers one
        below it. The quote of a customer at risk gets at least the last place, because it shows best what to do.
    """
    columns: dict[Theme, list[int]] = {}
    for position, feature in enumerate(contributions.columns):
        columns.setdefault(theme_of(feature), []).append(position)
    themes = list(columns)
    values = contributions.to_numpy()
    by_theme = np.column_stack([values[:, positions].sum(axis=1) for positions in columns.values()])
    direction = np.where(values.sum(axis=1) >= 0, 1.0, -1.0)
    strength = by_theme * direction[:, None]
    order = np.argsort(-strength, axis=1, kind="stable")
    quotes = _quotes([theme.name for theme in themes], strength, order, direction, quote, n_reasons)

    result = []
    names = list(features)
    rows = np.array([features[name] for name in names], dtype=np.float64).T
    for position, (row, ranking) in enumerate(zip(rows, order, strict=True)):
        # sentences get known numbers only
        numbers = {name: value for name, value in zip(names, row.tolist(), strict=True) if value == value}
        sentences = (
            (quotes.get(position) if theme.name == "words" else None) or theme.describe(numbers)
            for theme, effect in ((themes[i], strength[position, i]) for i in ranking)
            if effect > 0
        )
        chosen = [s for s in sentences if s]
        quoted = quotes.get(position) if direction[position] > 0 else None
        if quoted in chosen[n_reasons:]:
            chosen[n_reasons - 1] = quoted
        result.append(chosen[:n_reasons])
    return result


def _quotes(
    names: list[str],
    strength: np.ndarray,
    order: np.ndarray,
    direction: np.ndarray,
    quote: Callable[[np.ndarray, np.ndarray], list[str | None]] | None,
    n_reasons: int,
) -> dict[int, str | None]:
    """Quotes by position: for customers at risk whose words raise the score, and where words are a strong reason."""
    if quote is None or "words" not in names:
        return {}
    words = names.index("words")
    # one more than the reasons returned, because a theme may have no sentence
    strong = (order[:, : n_reasons + 1] == words).any(axis=1) | (direction > 0)
    positions = np.flatnonzero(strong & (strength[:, words] > 0))
    return dict(zip(positions.tolist(), quote(positions, direction[positions]), strict=True)) if len(positions) else {}
