"""Random shops whose rows arrive, change and are reloaded as in real ones, and what is right for them, in plain pandas.

A shop keeps every order with its true history. ``RandomShop.raw`` returns the raw tables as a build finds them;
``RandomShop.expected`` computes features and labels from the histories, by rules of its own.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

START, LAST = pd.Timestamp("2023-01-02"), pd.Timestamp("2023-07-20")
#: How the shop stores a change of an order: a row each with an arrival time, in place, in place with an arrival time
#: or with the time of the change of status.
STORAGES = ("appended", "overwritten", "overwritten_with_loaded_at", "status_changed_at")
#: A build starts at six o'clock on its as-of date, and finds rows of that morning.
MORNING = pd.Timedelta(hours=6)
SECOND, DAY = pd.Timedelta(seconds=1), pd.Timedelta(days=1)


@dataclass(frozen=True)
class Version:
    """An order from one change to the next; ``loaded_at`` is when the shop's warehouse received it."""

    changed_at: pd.Timestamp
    loaded_at: pd.Timestamp
    status: str
    amount: float


@dataclass
class RandomShop:
    """A shop drawn from a seed."""

    seed: int
    storage: str = ""
    #: Whether the first build is made by other code than the next ones.
    code_changes: bool = False
    #: As-of dates of the builds, in order.
    days: list[pd.Timestamp] = field(default_factory=list)
    #: By order: customer, time, versions.
    orders: dict[str, tuple[int, pd.Timestamp, list[Version]]] = field(default_factory=dict)
    events: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __post_init__(self) -> None:
        rng = self.rng = np.random.default_rng(self.seed)
        self.storage = STORAGES[self.seed % len(STORAGES)]
        # half of the shops of each storage
        self.code_changes = self.seed % 8 in (0, 1, 2, 7)
        consecutive = bool(rng.random() < 0.5)
        gaps = [1, 1] if consecutive else rng.integers(1, 15, 2)
        self.days = [LAST - pd.Timedelta(days=int(gap)) for gap in np.cumsum(gaps)[::-1]] + [LAST]
        self.reloaded_at = LAST - pd.Timedelta(days=int(rng.integers(0, 20))) if rng.random() < 0.3 else None
        self.offset = int(rng.choice([-5, 0, 8])) if rng.random() < 0.5 else None
        self.float_ids = bool(rng.random() < 0.5)
        customers = range(1, 13)
        for customer in customers:
            self._draw_orders(customer)
        self._draw_events(customers, late=consecutive)

    def _draw_orders(self, customer: int) -> None:
        rng, moment = self.rng, START + pd.Timedelta(days=float(self.rng.uniform(0, 40)))
        gap = rng.uniform(5, 25)
        while moment < LAST + DAY:
            moment = moment.floor("s")
            delay = pd.Timedelta(days=int(rng.choice([0, 0, 1, 12]))) if self.storage == "appended" else pd.Timedelta(0)
            versions = [Version(moment, moment + delay + pd.Timedelta(minutes=5), "completed", _amount(rng))]
            while rng.random() < 0.25:
                before = versions[-1]
                at = before.loaded_at + pd.Timedelta(days=float(rng.choice([0.1, 1, 9, 40]))).floor("s")
                kinds = ["returned", "cancelled", "completed", "refund"]
                status = str(rng.choice(kinds if self.storage == "status_changed_at" else kinds[:3]))
                amount = before.amount if self.storage == "status_changed_at" else _amount(rng)
                if self.storage == "status_changed_at" and (status == "completed" or len(versions) > 1):
                    break
                versions.append(Version(at, at, status, amount))
            self.orders[f"o{len(self.orders)}"] = (customer, moment, versions)
            moment += pd.Timedelta(days=float(rng.exponential(gap)) + 0.01)

    def _draw_events(self, customers: range, late: bool) -> None:
        """Visits on days of orders and on others; the feed may stop."""
        rng = self.rng
        stops_at = LAST - pd.Timedelta(days=int(rng.integers(1, 60))) if rng.random() < 0.3 else LAST + DAY
        moments = [
            (c, placed - pd.Timedelta(minutes=int(rng.integers(0, 600)))) for c, placed, _ in self.orders.values()
        ]
        moments += [
            (int(rng.choice(customers)), START + pd.Timedelta(minutes=int(rng.integers(0, 199 * 24 * 60))))
            for _ in range(150)
        ]
        rows = pd.DataFrame(moments, columns=["customer_id", "occurred_at"])
        rows["event_id"] = [f"e{i}" for i in range(len(rows))]
        rows["event_type"] = rng.choice(["view", "cart_add", "zoom"], len(rows))
        rows["arrives_at"] = rows.occurred_at + pd.to_timedelta(rng.integers(0, 3 if late else 1, len(rows)), "D")
        self.events = rows[rows.occurred_at < stops_at].reset_index(drop=True)

    def raw(self, day: pd.Timestamp) -> dict[str, pd.DataFrame]:
        """Return the raw tables that a build finds on the morning of a day, in random order."""
        seen_until, rows = day + MORNING, []
        for order_id, (customer, placed, versions) in self.orders.items():
            arrived = [v for v in versions if v.loaded_at <= seen_until]
            kept = arrived if self.storage == "appended" else arrived[-1:]
            rows += [(order_id, customer, placed, v.amount, v.status, v.loaded_at, v) for v in kept]
        columns = ["order_id", "customer_id", "ordered_at", "amount", "status", "loaded_at", "version"]
        orders = pd.DataFrame(rows, columns=columns)
        # completed orders of every other customer have a time as well, as when they were shipped
        shipped = [pd.Timedelta(days=3) if c % 2 else pd.NaT for c in orders.customer_id]
        changed = [
            v.changed_at + (later if v.status == "completed" else pd.Timedelta(0))
            for v, later in zip(orders.pop("version"), shipped, strict=True)
        ]
        if self.storage == "appended" and self.reloaded_at is not None and self.reloaded_at < day:
            # the whole table was loaded once more, with one arrival time
            reloaded = orders[orders.loaded_at < self.reloaded_at].drop_duplicates("order_id", keep="last")
            orders = pd.concat([orders, reloaded.assign(loaded_at=self.reloaded_at)], ignore_index=True)
        if self.storage == "overwritten_with_loaded_at" and day > self.days[0]:
            # old rows are loaded again, and say the same
            again = (orders.loaded_at <= self.days[0] + MORNING) & (orders.index % 3 == 0)
            orders.loc[again, "loaded_at"] = day + pd.Timedelta(hours=1)
        if self.storage in ("overwritten", "status_changed_at"):
            orders = orders.drop(columns="loaded_at")
        if self.storage == "status_changed_at":
            orders["status_changed_at"] = changed
        if self.offset is not None:
            local = orders.ordered_at + pd.Timedelta(hours=self.offset)
            orders["ordered_at"] = local.dt.strftime("%Y-%m-%dT%H:%M:%S") + f"{self.offset:+03d}:00"
        if self.float_ids:
            orders["customer_id"] = orders.customer_id.astype(float)
        events = self.events[self.events.arrives_at <= seen_until].drop(columns="arrives_at")
        tables = {"orders": orders, "events": events}
        return {name: table.sample(frac=1, random_state=self.seed) for name, table in tables.items()}

    def known_versions(self, day: pd.Timestamp) -> pd.DataFrame:
        """Return the versions of all orders that a build of a day can know of, with the time from which on it does."""
        rows, builds = [], [d for d in self.days if d <= day]
        for order_id, (customer, placed, versions) in self.orders.items():
            timeline: list[tuple[pd.Timestamp, str, float]] = []
            if self.storage in ("appended", "status_changed_at"):
                by = {"appended": "loaded_at", "status_changed_at": "changed_at"}[self.storage]
                arrived = [v for v in versions if v.loaded_at <= day + MORNING]
                # where an order's own row becomes a refund, the order was given back
                status = {"refund": "returned"}
                timeline = [(max(placed, getattr(v, by)), status.get(v.status, v.status), v.amount) for v in arrived]
            else:
                for build in builds:
                    seen = [v for v in versions if v.loaded_at <= build + MORNING]
                    if seen and (not timeline or timeline[-1][1:] != (seen[-1].status, seen[-1].amount)):
                        known_at = build - SECOND if timeline else placed
                        if self.storage == "overwritten_with_loaded_at":
                            known_at = max(placed, seen[-1].loaded_at)
                        timeline.append((known_at, seen[-1].status, seen[-1].amount))
            ends = [*(known_at for known_at, *_ in timeline[1:]), pd.NaT][: len(timeline)]
            rows += [(order_id, customer, placed, *row, end) for row, end in zip(timeline, ends, strict=True)]
        columns = ["order_id", "customer_id", "placed", "known_at", "status", "amount", "superseded_at"]
        return pd.DataFrame(rows, columns=columns)

    def expected(self, day: pd.Timestamp, built_on: pd.Timestamp) -> pd.DataFrame:
        """Return features by customer at an as-of date, of those who ordered in the 90 days before it.

        Orders as they were known then, browsing as far as it had arrived when the snapshot was ``built_on``.
        """
        versions = self.known_versions(day)
        # a day's versions count from the next midnight on
        valid = (versions.known_at < day) & (versions.placed < day)
        valid &= versions.superseded_at.isna() | (versions.superseded_at.dt.normalize() >= day)
        known = versions[valid]
        bought = known[known.status == "completed"]
        age = (day - bought.placed.dt.normalize()).dt.days
        grouped = bought.assign(age=age).groupby("customer_id")
        features = pd.DataFrame(
            {
                "orders_total": grouped.size(),
                "orders_90d": bought[age <= 90].groupby("customer_id").size(),
                "spend_total": grouped.amount.sum().round(4),
                "days_since_last_order": grouped.age.min(),
            }
        )
        features = features[features.days_since_last_order <= 90].copy()
        every = known.groupby("customer_id").size()
        returned = known[known.status == "returned"].groupby("customer_id").size()
        features["returned_order_share"] = (returned.reindex(features.index).fillna(0) / every).reindex(features.index)
        events = self.events[(self.events.occurred_at < day) & (self.events.arrives_at <= built_on + MORNING)]
        event_age = (day - events.occurred_at.dt.normalize()).dt.days
        views = events[(event_age <= 90) & (events.event_type == "view")].groupby("customer_id").size()
        features["view_events_90d"] = views.reindex(features.index).fillna(0)
        features["days_since_last_visit"] = event_age.groupby(events.customer_id).min().reindex(features.index)
        return features

    def expected_labels(self, dates: list[pd.Timestamp], horizon: int = 30) -> pd.Series:
        """Return the outcome by date and customer as the last build knows it: 1 churned, 0 not, NaN if not over."""
        day = self.days[-1]
        versions = self.known_versions(day)
        versions = versions[(versions.known_at < day) & (versions.placed < day)]
        current = versions[versions.superseded_at.isna() | (versions.superseded_at.dt.normalize() >= day)]
        bought = current[current.status == "completed"]
        # the newest day with an order or an arrival may not be over; a row that is loaded again in place arrives again
        arrivals = [self.known_versions(day).known_at.max()]
        if self.storage == "overwritten_with_loaded_at":
            arrivals.append(self.raw(day)["orders"].loaded_at.max())
        observed_until = min(day, max(arrivals).normalize())
        outcomes = {}
        for date in dates:
            end = date + pd.Timedelta(days=horizon)
            within = set(bought[(bought.placed >= date) & (bought.placed < end)].customer_id)
            for customer in range(1, 13):
                outcomes[date, customer] = float(customer not in within) if end <= observed_until else np.nan
        return pd.Series(outcomes)


def _amount(rng: np.random.Generator) -> float:
    return float(rng.integers(1, 1000)) / 4
