"""Raw tables and hidden truth of a block of simulated customer lives."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.simulation.lives import (
    ACTION_COSTS,
    ACTIONS,
    COUPON_PROBABILITIES,
    COUPON_PROBABILITY,
    PROPENSITIES,
    SEGMENTS,
    Lives,
    true_effects,
)
from inference.simulation.words import Bank, complaint, neutral, praise

# fmt: off
CATEGORIES = (
    "garden", "kitchen", "lighting", "outdoor", "fashion", "shoes", "audio", "bath", "toys",
    "office", "travel", "decor",
)
# fmt: on
PRODUCTS_PER_CATEGORY = 40
#: Probability of a review after an order that went well, an incident that shows in texts only, and another incident.
REVIEW_PROBABILITIES = {"well": 0.45, "words_only": 0.95, "other": 0.55}
#: Share of reviews of orders that went well that are neutral, not positive.
NEUTRAL_SHARE = 0.4
#: Share of ratings that contradict the text, and share that are missing.
DISAGREEING_RATINGS, MISSING_RATINGS = 0.12, 0.15
#: Mean days for which a customer who has left keeps browsing.
BROWSING_AFTER_LEAVING_DAYS = 45.0


@dataclass
class Block:
    """Turns the lives of one block of customers into tables."""

    people: Lives
    #: Block number, part of every key, and number of the block's first customer.
    number: int
    first_id: int
    #: First day of the shop, and length of its history.
    start: pd.Timestamp
    days: int
    #: Phrases to write texts from.
    bank: Bank
    rng: np.random.Generator
    #: Mean days between a customer's visits without an order.
    visit_every_days: float

    def __post_init__(self) -> None:
        n = len(self.people.signed_up)
        self.names = np.array([f"c{self.first_id + i:07d}" for i in range(n)], dtype=object)
        self.taste = self.rng.dirichlet(np.full(len(CATEGORIES), 0.3), n)

    def tables(self) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
        """Return the seven raw tables and the truth tables."""
        orders, items = self._orders()
        reviews, tickets, incidents = self._texts(orders)
        raw = {
            "orders": orders,
            "customers": self._customers(),
            "order_items": items,
            "events": self._events(),
            "reviews": reviews,
            "support_tickets": tickets,
            "campaign_touches": self._touches(),
        }
        return raw, {"customers": self._true_customers(), "incidents": incidents}

    def _moments(self, day: np.ndarray) -> pd.DatetimeIndex:
        return self.start + pd.to_timedelta((day * 86400).astype(np.int64), "s")

    def _keys(self, prefix: str, n: int) -> list[str]:
        return [f"{prefix}{self.number}-{i}" for i in range(n)]

    def _orders(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        people, lived, rng = self.people, self.people.orders, self.rng
        n, customer = len(lived), lived.customer.to_numpy()
        sent_back = ~lived.words_only & lived.aspect.isin(["quality", "returns"]) & (rng.random(n) < 0.25)
        order_ids = np.array(self._keys("o", n), dtype=object)
        lines = 1 + rng.poisson(1.2, n)
        owner = np.repeat(np.arange(n), lines)
        # inverse transform sampling from each customer's distribution over categories
        edges = self.taste.cumsum(axis=1)[customer[owner]]
        category = (rng.random((len(owner), 1)) > edges[:, :-1]).sum(axis=1)
        product = category * PRODUCTS_PER_CATEGORY + rng.integers(0, PRODUCTS_PER_CATEGORY, len(owner))
        items = pd.DataFrame(
            {
                "order_id": order_ids[owner],
                "product_id": [f"p{p}" for p in product],
                "quantity": 1 + rng.poisson(0.2, len(owner)),
                "unit_price": np.round(8 + 45 * ((product * 7919) % 97) / 97, 2),
                "product_name": [f"{CATEGORIES[c]} no. {p}" for c, p in zip(category, product, strict=True)],
                "category": np.array(CATEGORIES, dtype=object)[category],
            }
        ).drop_duplicates(["order_id", "product_id"])
        paid = (items.quantity * items.unit_price).groupby(items.order_id).sum().reindex(order_ids).to_numpy()
        coupon_probability = np.full(len(SEGMENTS), COUPON_PROBABILITY)
        if people.campaigns == "strong":
            coupon_probability = np.array([COUPON_PROBABILITIES[name] for name in SEGMENTS])
        coupon = rng.random(n) < coupon_probability[people.segment[customer]]
        orders = pd.DataFrame(
            {
                "order_id": order_ids,
                "customer_id": self.names[customer],
                "ordered_at": self._moments(lived.day.to_numpy()),
                "amount": np.round(np.where(coupon, paid * 0.9, paid), 2),
                "status": np.where(sent_back, "returned", "completed"),
                "discount_amount": np.round(np.where(coupon, paid * 0.1, 0), 2),
                "coupon_code": ["TEN" if used else None for used in coupon],
            }
        )
        return orders, items.reset_index(drop=True)

    def _customers(self) -> pd.DataFrame:
        signed_up = np.floor(self.people.signed_up)
        return pd.DataFrame(
            {
                "customer_id": self.names,
                "signed_up_at": self._moments(signed_up),
                "country": self.rng.choice(["DE", "FR", "NL", "AT"], len(self.names)),
            }
        )

    def _texts(self, orders: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Reviews, support tickets and true incidents."""
        lived, rng = self.people.orders, self.rng
        n, words_only = len(orders), lived.words_only.to_numpy()
        incident = (lived.aspect != "").to_numpy()
        kind = np.where(~incident, "well", np.where(words_only, "words_only", "other"))
        reviewed = rng.random(n) < np.array([REVIEW_PROBABILITIES[k] for k in kind])
        complained = incident & ~words_only & (rng.random(n) < 0.6)
        written = lived.day.to_numpy() + rng.uniform(0.3, 4, n)
        reviewed &= written < self.days
        ticketed = complained & (written < self.days)
        texts = self._write(reviewed | ticketed)
        review_ids, ticket_ids = self._keys("r", n), self._keys("t", n)
        reviews = pd.DataFrame(
            {
                "review_id": review_ids,
                "customer_id": orders.customer_id,
                "review_text": texts,
                "reviewed_at": self._moments(written),
                "rating": self._ratings(incident & ~words_only),
            }
        )[reviewed]
        closed = written + rng.exponential(40, n) / 24
        answered = closed < self.days
        tickets = pd.DataFrame(
            {
                "ticket_id": ticket_ids,
                "customer_id": orders.customer_id,
                "opened_at": self._moments(written),
                "closed_at": pd.Series(self._moments(np.minimum(closed, self.days))).where(answered),
                "topic": lived.aspect,
                "ticket_text": texts,
                "satisfaction": np.where(answered, rng.integers(1, 5, n), np.nan),
            }
        )[ticketed]
        incidents = pd.DataFrame(
            {
                "customer_id": orders.customer_id,
                "order_id": orders.order_id,
                "happened_at": orders.ordered_at,
                "aspect": lived.aspect,
                "severity": lived.severity,
                "words_only": lived.words_only,
                "review_id": pd.Series(review_ids).where(reviewed),
                "ticket_id": pd.Series(ticket_ids).where(ticketed),
                "caused_leaving": lived.caused_leaving,
                "would_cause_leaving": lived.would_cause_leaving,
            }
        )[incident]
        return reviews.reset_index(drop=True), tickets.reset_index(drop=True), incidents.reset_index(drop=True)

    def _write(self, is_written: np.ndarray) -> np.ndarray:
        """Text about each of these orders, None for the others."""
        rng, orders = self.rng, self.people.orders
        aspect, severity = orders.aspect.to_numpy(), orders.severity.to_numpy()
        texts = np.empty(len(is_written), dtype=object)
        for i in np.flatnonzero(is_written):
            if aspect[i]:
                texts[i] = complaint(self.bank, aspect[i], severity[i], rng)
            else:
                texts[i] = neutral(self.bank, rng) if rng.random() < NEUTRAL_SHARE else praise(self.bank, rng)
        return texts

    def _ratings(self, is_visible: np.ndarray) -> np.ndarray:
        """Rating of each order, 1 to 5, low where an incident shows; some contradict it, some are missing."""
        rng, n = self.rng, len(is_visible)
        honest = np.where(is_visible, rng.integers(1, 4, n), rng.integers(3, 6, n)).astype(float)
        rating = np.where(rng.random(n) < DISAGREEING_RATINGS, 6 - honest, honest)
        rating[rng.random(n) < MISSING_RATINGS] = np.nan
        return rating

    def _events(self) -> pd.DataFrame:
        people, rng = self.people, self.rng
        # one visit with every order and others in between; customers who left keep browsing for a while
        fades = rng.exponential(BROWSING_AFTER_LEAVING_DAYS, len(self.names))
        until = np.minimum(people.left + fades, self.days)
        since = np.maximum(people.signed_up, 0)
        idle = rng.poisson(np.maximum(until - since, 0) / self.visit_every_days)
        idle_customer = np.repeat(np.arange(len(self.names)), idle)
        idle_day = rng.uniform(since[idle_customer], np.maximum(until, since)[idle_customer])
        n_orders = len(people.orders)
        customer = np.concatenate([people.orders.customer, idle_customer])
        day = np.concatenate([people.orders.day - rng.uniform(0.005, 0.03, n_orders), idle_day])
        buys = np.arange(len(customer)) < n_orders
        counts = {
            "view": 1 + rng.poisson(2.5, len(customer)),
            "search": rng.poisson(0.5, len(customer)),
            "cart_add": np.where(buys, 1 + rng.poisson(0.5, len(customer)), rng.random(len(customer)) < 0.15),
            "cart_remove": (rng.random(len(customer)) < 0.05).astype(int),
            "wishlist": (rng.random(len(customer)) < 0.06).astype(int),
            "login": (rng.random(len(customer)) < 0.5).astype(int),
        }
        visit = np.concatenate([np.repeat(np.arange(len(customer)), c.astype(int)) for c in counts.values()])
        kinds = np.concatenate([np.full(int(c.sum()), name, dtype=object) for name, c in counts.items()])
        moment = np.maximum(day[visit], 0) + rng.uniform(0, 0.005, len(visit))
        inside = moment < self.days
        visit, kinds, moment = visit[inside], kinds[inside], moment[inside]
        return pd.DataFrame(
            {
                "event_id": self._keys("e", len(visit)),
                "customer_id": self.names[customer[visit]],
                "event_type": kinds,
                "occurred_at": self._moments(moment),
                "session_id": [f"s{self.number}-{v}" for v in visit],
            }
        )

    def _touches(self) -> pd.DataFrame:
        rng, touches = self.rng, self.people.touches
        customer, day, action = (touches[name].to_numpy() for name in ("customer", "day", "action"))
        still_there = day < self.people.left[customer]
        redeemed = day + rng.uniform(1, 14, len(day))
        used = (action == ACTIONS.index("coupon")) & still_there & (rng.random(len(day)) < 0.3) & (redeemed < self.days)
        return pd.DataFrame(
            {
                "touch_id": self._keys("x", len(day)),
                "customer_id": self.names[customer],
                "campaign_id": [f"w{int(d)}" for d in day],
                "action": np.array(ACTIONS, dtype=object)[action],
                "touched_at": self._moments(day),
                "cost": np.array(ACTION_COSTS)[action],
                "propensity": np.array(PROPENSITIES)[action],
                "redeemed_at": pd.Series(self._moments(np.minimum(redeemed, self.days))).where(used),
            }
        )

    def _true_customers(self) -> pd.DataFrame:
        people = self.people
        left = pd.Series(self._moments(np.minimum(people.left, self.days))).where(people.left < self.days)
        effects = true_effects(people)
        return pd.DataFrame(
            {
                "customer_id": self.names,
                "mean_gap_days": people.mean_gap,
                "left_at": left,
                "segment": np.array(SEGMENTS, dtype=object)[people.segment],
                **{f"effect_{action}": effects[:, i] for i, action in enumerate(ACTIONS[:-1])},
            }
        )
