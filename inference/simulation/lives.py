"""Simulated lives: who orders when, what goes wrong, who leaves because of it, and what campaigns change.

All times are days since the first day of the shop, as floats. Arrays run over customers of one block.
"""

from dataclasses import dataclass, field

import numpy as np

from inference.simulation.words import ASPECTS

#: Chance that an order meets an incident, of each severity, and chance that it makes the customer leave.
INCIDENT_CHANCE = 0.25
SEVERITY_SHARES = {"mild": 0.35, "medium": 0.20, "severe": 0.45}
LEAVE_CHANCE = {"mild": 0.02, "medium": 0.35, "severe": 0.95}
#: An incident makes the customer leave this many days later, evenly spread.
LEAVE_DELAY_DAYS = (2.0, 14.0)
#: Share of incidents that leave no trace but words.
WORDS_ONLY_SHARE = 0.6
#: Mean days until a customer leaves for no reason that the shop could know.
NATURAL_LIFE_DAYS = 1200.0
#: A happy customer forgives: chance to leave is multiplied by this when the last three orders went well.
FORGIVENESS = 0.8
#: Swing of demand over the year, by season setting; the peak lies in late November.
SEASON_SWING = {"none": 0.0, "mild": 0.15, "strong": 0.6}
PEAK_DAY_OF_YEAR = 330
#: A campaign runs every so many days and touches this share of the customers, by what campaigns change: nothing; who
#: leaves after it (``mild``); also, and more, who has left since the incident (``strong``, where coupons tell who can
#: be kept, and who is won back orders within ``WON_BACK_DAYS``).
CAMPAIGN_EVERY_DAYS = 28
CAMPAIGN_SHARES = {"none": 0.3, "mild": 0.3, "strong": 0.9}
ACTIONS = ("coupon", "recommendation", "service_call", "holdout")
PROPENSITIES = (0.3, 0.25, 0.15, 0.3)
ACTION_COSTS = (1.5, 0.1, 6.0, 0.0)
#: Share of customers of each kind, and by how much an action lowers their chance to leave in the next four weeks
#: (a sleeping dog leaves rather because of it).
SEGMENTS = ("persuadable", "sure_thing", "lost_cause", "sleeping_dog")
SEGMENT_SHARES = (0.35, 0.35, 0.2, 0.1)
EFFECTS = {
    "persuadable": (0.5, 0.15, 0.7),
    "sure_thing": (0.1, 0.05, 0.1),
    "lost_cause": (0.0, 0.0, 0.05),
    "sleeping_dog": (-0.2, -0.1, -0.3),
}
STRONG_EFFECTS = EFFECTS | {"persuadable": (0.8, 0.3, 0.9)}
WON_BACK_DAYS = (1.0, 14.0)
#: Chance that an order uses a coupon, and that by segment where campaigns are strong.
COUPON_CHANCE = 0.15
COUPON_CHANCES = {"persuadable": 0.55, "sure_thing": 0.1, "lost_cause": 0.02, "sleeping_dog": 0.0}


@dataclass
class Lives:
    """One block of customers and everything that happened to them.

    Order arrays are parallel: ``order_customer`` indexes the block, ``incident_*`` are empty strings where the
    order went well.
    """

    signed_up: np.ndarray
    mean_gap: np.ndarray
    regularity: np.ndarray
    segment: np.ndarray
    left: np.ndarray
    natural_end: np.ndarray
    touch_customer: np.ndarray
    touch_day: np.ndarray
    touch_action: np.ndarray
    campaigns: str
    order_customer: np.ndarray = field(default_factory=lambda: np.empty(0, int))
    order_day: np.ndarray = field(default_factory=lambda: np.empty(0))
    incident_aspect: np.ndarray = field(default_factory=lambda: np.empty(0, object))
    incident_severity: np.ndarray = field(default_factory=lambda: np.empty(0, object))
    words_only: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    caused_leaving: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    would_cause_leaving: np.ndarray = field(default_factory=lambda: np.empty(0, bool))


def live(
    n: int, days: int, first_day_of_year: int, season: str, rng: np.random.Generator, campaigns: str = "mild"
) -> Lives:
    """Simulate a block of customers.

    Parameters
    ----------
    n : int
        Customers.
    days : int
        Length of the shop's history.
    first_day_of_year : int
        Day of the year on which the history begins, for the season.
    season : str
        ``none``, ``mild`` or ``strong``.
    rng : Generator
        Source of chance.
    campaigns : str
        What they change, among ``CAMPAIGN_SHARES``.
    """
    # six in ten were there before the history begins, the others join evenly over it
    signed_up = np.where(rng.random(n) < 0.6, rng.uniform(-120, 0, n), rng.uniform(0, days, n))
    people = Lives(
        signed_up=signed_up,
        mean_gap=rng.lognormal(np.log(28), 0.3, n),
        regularity=rng.uniform(4, 9, n),
        segment=rng.choice(len(SEGMENTS), n, p=SEGMENT_SHARES),
        left=np.full(n, np.inf),
        natural_end=signed_up + rng.exponential(NATURAL_LIFE_DAYS, n),
        campaigns=campaigns,
        **_touches(n, days, signed_up, CAMPAIGN_SHARES[campaigns], rng),
    )
    touched = _actions_by_campaign(people, n, days)
    clock = _season_clock(days, first_day_of_year, season)
    seasonal_day = np.interp(signed_up, clock.day, clock.seasonal)
    good_orders = np.zeros(n)
    won_back = np.zeros(n, dtype=bool)
    collected: list[dict[str, np.ndarray]] = []
    active = np.arange(n)
    while len(active):
        gap = rng.gamma(people.regularity[active], people.mean_gap[active] / people.regularity[active])
        # who was won back orders at a day of its own
        seasonal_day[active] += np.where(won_back[active], 0.0, gap)
        day = np.interp(seasonal_day[active], clock.seasonal, clock.day, right=np.inf)
        goes_on = (day < days) & (day < people.left[active]) & (day < people.natural_end[active])
        active, day = active[goes_on], day[goes_on]
        orders = _incidents(people, active, day, good_orders, touched, rng)
        back = orders.pop("comes_back")
        won_back[active] = won = np.isfinite(back)
        seasonal_day[active[won]] = np.interp(back[won], clock.day, clock.seasonal)
        collected.append(orders | {"customer": active, "day": day})
    _store_orders(people, collected)
    people.left = np.minimum(people.left, people.natural_end)
    return people


def true_effects(people: Lives) -> np.ndarray:
    """Reduction of the chance to leave by each action but the holdout, shape (n_customers, 3)."""
    of_segment = STRONG_EFFECTS if people.campaigns == "strong" else EFFECTS
    effects = np.array([of_segment[name] for name in SEGMENTS])[people.segment]
    return np.zeros_like(effects) if people.campaigns == "none" else effects


@dataclass(frozen=True)
class _Clock:
    day: np.ndarray
    seasonal: np.ndarray


def _season_clock(days: int, first_day_of_year: int, season: str) -> _Clock:
    """Seasonal time runs faster while demand is high, so gaps drawn in it shrink."""
    grid = np.arange(-150, days + 1, dtype=float)
    phase = 2 * np.pi * (grid + first_day_of_year - PEAK_DAY_OF_YEAR) / 365.25
    pace = 1 + SEASON_SWING[season] * np.cos(phase)
    return _Clock(grid, np.concatenate([[0], np.cumsum(pace)[:-1]]))


def _touches(n: int, days: int, signed_up: np.ndarray, share: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    campaign_days = np.arange(CAMPAIGN_EVERY_DAYS, days, CAMPAIGN_EVERY_DAYS, dtype=float)
    chosen = (rng.random((n, len(campaign_days))) < share) & (signed_up[:, None] < campaign_days)
    customer, campaign = np.nonzero(chosen)
    return {
        "touch_customer": customer,
        "touch_day": campaign_days[campaign],
        "touch_action": rng.choice(len(ACTIONS), len(customer), p=PROPENSITIES),
    }


def _actions_by_campaign(people: Lives, n: int, days: int) -> np.ndarray:
    """Action of each campaign for each customer, shape (n, n_campaigns + 2); the holdout where there was none."""
    touched = np.full((n, days // CAMPAIGN_EVERY_DAYS + 2), ACTIONS.index("holdout"))
    touched[people.touch_customer, (people.touch_day // CAMPAIGN_EVERY_DAYS).astype(int)] = people.touch_action
    return touched


def _incidents(
    people: Lives,
    active: np.ndarray,
    day: np.ndarray,
    good_orders: np.ndarray,
    touched: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    n = len(active)
    happened = rng.random(n) < INCIDENT_CHANCE
    severity = rng.choice(list(SEVERITY_SHARES), n, p=list(SEVERITY_SHARES.values()))
    leave_chance = np.array([LEAVE_CHANCE[s] for s in severity], dtype=float)
    leave_chance *= np.where(good_orders[active] >= 3, FORGIVENESS, 1.0)
    good_orders[active] = np.where(happened, 0, good_orders[active] + 1)
    leaves = happened & (rng.random(n) < leave_chance)
    when = day + rng.uniform(*LEAVE_DELAY_DAYS, n)
    # a campaign before the leaving, or soon after, may keep the customer, or drive a sleeping dog away
    campaign = (when // CAMPAIGN_EVERY_DAYS).astype(int)
    if people.campaigns == "strong":
        campaign = (day // CAMPAIGN_EVERY_DAYS).astype(int) + 1
    reached = (campaign * CAMPAIGN_EVERY_DAYS > day) & (campaign < touched.shape[1])
    action = touched[active, np.minimum(campaign, touched.shape[1] - 1)]
    effects = np.column_stack([true_effects(people)[active], np.zeros(n)])[np.arange(n), action]
    chance = rng.random(n)
    kept = leaves & reached & (chance < effects)
    driven = happened & ~leaves & reached & (chance < -effects)
    left_alone = leaves
    leaves = (leaves & ~kept) | driven
    contact = campaign * float(CAMPAIGN_EVERY_DAYS)
    won = kept & (contact > when)
    back = np.full(n, np.nan)
    back[won] = contact[won] + rng.uniform(*WON_BACK_DAYS, won.sum())
    when = np.where(driven, np.maximum(when, contact), when)
    people.left[active[leaves]] = np.minimum(people.left[active[leaves]], when[leaves])
    return {
        "aspect": np.where(happened, rng.choice(ASPECTS, n), "").astype(object),
        "severity": np.where(happened, severity, "").astype(object),
        "words_only": happened & (rng.random(n) < WORDS_ONLY_SHARE),
        "caused_leaving": leaves,
        "would_cause_leaving": left_alone,
        "comes_back": back,
    }


def _store_orders(people: Lives, collected: list[dict[str, np.ndarray]]) -> None:
    joined = {name: np.concatenate([part[name] for part in collected]) for name in collected[0]}
    seen = joined["day"] >= 0
    order = np.lexsort((joined["day"][seen], joined["customer"][seen]))
    people.order_customer = joined["customer"][seen][order]
    people.order_day = joined["day"][seen][order]
    people.incident_aspect = joined["aspect"][seen][order]
    people.incident_severity = joined["severity"][seen][order]
    people.words_only = joined["words_only"][seen][order]
    people.caused_leaving = joined["caused_leaving"][seen][order]
    people.would_cause_leaving = joined["would_cause_leaving"][seen][order]
