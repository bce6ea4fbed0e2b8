"""Simulated customer lives: orders, incidents, who leaves because of one, and the effects of campaigns.

All times are days since the first day of the shop, as floats. Arrays have one entry per customer of a block.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from inference.simulation.words import ASPECTS

#: Probability that an order meets an incident, shares of severities, and probability that it makes the customer leave.
INCIDENT_PROBABILITY = 0.25
SEVERITY_SHARES = {"mild": 0.35, "medium": 0.20, "severe": 0.45}
LEAVE_PROBABILITY = {"mild": 0.02, "medium": 0.35, "severe": 0.95}
#: Days from an incident until the customer leaves, uniform.
LEAVE_DELAY_DAYS = (2.0, 14.0)
#: Share of incidents that show in texts only.
WORDS_ONLY_SHARE = 0.6
#: Mean days until a customer leaves for a reason that no data shows.
NATURAL_LIFE_DAYS = 1200.0
#: Factor on the probability of leaving if the last three orders went well.
FORGIVENESS = 0.8
#: Amplitude of demand over the year, by season setting; the peak is in late November.
SEASON_SWING = {"none": 0.0, "mild": 0.15, "strong": 0.6}
PEAK_DAY_OF_YEAR = 330
#: Days between campaigns, and share of customers that one contacts, by setting: campaigns change nothing (``none``);
#: may keep a customer who would leave after the contact (``mild``); have larger effects, also on customers who left
#: between the incident and the contact, and use of coupons reveals who can be kept (``strong``).
CAMPAIGN_EVERY_DAYS = 28
CAMPAIGN_SHARES = {"none": 0.3, "mild": 0.3, "strong": 0.9}
ACTIONS = ("coupon", "recommendation", "service_call", "holdout")
PROPENSITIES = (0.3, 0.25, 0.15, 0.3)
ACTION_COSTS = (1.5, 0.1, 6.0, 0.0)
#: Uplift segments, their shares, and by how much each action but the holdout lowers the probability of leaving in the
#: next four weeks (below zero: it makes the customer leave).
SEGMENTS = ("persuadable", "sure_thing", "lost_cause", "sleeping_dog")
SEGMENT_SHARES = (0.35, 0.35, 0.2, 0.1)
EFFECTS = {
    "persuadable": (0.5, 0.15, 0.7),
    "sure_thing": (0.1, 0.05, 0.1),
    "lost_cause": (0.0, 0.0, 0.05),
    "sleeping_dog": (-0.2, -0.1, -0.3),
}
STRONG_EFFECTS = EFFECTS | {"persuadable": (0.8, 0.3, 0.9)}
#: Days from a contact until the order of a customer who was won back, uniform.
WON_BACK_DAYS = (1.0, 14.0)
#: Probability that an order uses a coupon, and the same by segment if campaigns are strong.
COUPON_PROBABILITY = 0.15
COUPON_PROBABILITIES = {"persuadable": 0.55, "sure_thing": 0.1, "lost_cause": 0.02, "sleeping_dog": 0.0}


@dataclass
class Lives:
    """One block of customers and all their events."""

    signed_up: np.ndarray
    mean_gap: np.ndarray
    regularity: np.ndarray
    segment: np.ndarray
    left: np.ndarray
    natural_end: np.ndarray
    campaigns: str
    #: Contacts: ``customer`` (its position in the block), ``day`` and ``action`` (its position in ``ACTIONS``).
    touches: pd.DataFrame
    #: Orders by customer and day: ``customer``, ``day``, ``aspect`` and ``severity`` of an incident (empty strings if
    #: the order went well), ``words_only``, ``caused_leaving`` and ``would_cause_leaving`` (without contacts).
    orders: pd.DataFrame = field(default_factory=pd.DataFrame)


def live(
    n: int, days: int, first_day_of_year: int, season: str, rng: np.random.Generator, campaigns: str = "mild"
) -> Lives:
    """Simulate a block of customers.

    Parameters
    ----------
    n : int
        Number of customers.
    days : int
        Length of the shop's history.
    first_day_of_year : int
        Day of the year of the first day, for the season.
    season, campaigns : str
        Keys of ``SEASON_SWING`` and ``CAMPAIGN_SHARES``.
    rng : Generator
        Random number generator.
    """
    # 60 % signed up before the first day, the others uniformly over the history
    signed_up = np.where(rng.random(n) < 0.6, rng.uniform(-120, 0, n), rng.uniform(0, days, n))
    people = Lives(
        signed_up=signed_up,
        mean_gap=rng.lognormal(np.log(28), 0.3, n),
        regularity=rng.uniform(4, 9, n),
        segment=rng.choice(len(SEGMENTS), n, p=SEGMENT_SHARES),
        left=np.full(n, np.inf),
        natural_end=signed_up + rng.exponential(NATURAL_LIFE_DAYS, n),
        campaigns=campaigns,
        touches=_touches(n, days, signed_up, CAMPAIGN_SHARES[campaigns], rng),
    )
    # action of each campaign for each customer; the holdout by default
    touched = np.full((n, days // CAMPAIGN_EVERY_DAYS + 2), ACTIONS.index("holdout"))
    touched[people.touches.customer, (people.touches.day // CAMPAIGN_EVERY_DAYS).astype(int)] = people.touches.action
    calendar, seasonal = _season_clock(days, first_day_of_year, season)
    seasonal_day = np.interp(signed_up, calendar, seasonal)
    good_orders = np.zeros(n)
    won_back = np.zeros(n, dtype=bool)
    collected: list[pd.DataFrame] = []
    active = np.arange(n)
    while len(active):
        gap = rng.gamma(people.regularity[active], people.mean_gap[active] / people.regularity[active])
        # a customer who was won back orders on a day that is already set
        seasonal_day[active] += np.where(won_back[active], 0.0, gap)
        day = np.interp(seasonal_day[active], seasonal, calendar, right=np.inf)
        goes_on = (day < days) & (day < people.left[active]) & (day < people.natural_end[active])
        active, day = active[goes_on], day[goes_on]
        orders, return_day = _incidents(people, active, day, good_orders, touched, rng)
        won_back[active] = returns = np.isfinite(return_day)
        seasonal_day[active[returns]] = np.interp(return_day[returns], calendar, seasonal)
        collected.append(orders)
    orders = pd.concat(collected)
    people.orders = orders[orders.day >= 0].sort_values(["customer", "day"], ignore_index=True)
    people.left = np.minimum(people.left, people.natural_end)
    return people


def true_effects(people: Lives) -> np.ndarray:
    """Reduction of the probability of leaving by each action but the holdout, shape (n_customers, 3)."""
    effects_by_segment = STRONG_EFFECTS if people.campaigns == "strong" else EFFECTS
    effects = np.array([effects_by_segment[name] for name in SEGMENTS])[people.segment]
    return np.zeros_like(effects) if people.campaigns == "none" else effects


def _season_clock(days: int, first_day_of_year: int, season: str) -> tuple[np.ndarray, np.ndarray]:
    """Days, and their seasonal time: it runs faster while demand is high, so that gaps drawn in it are shorter then."""
    grid = np.arange(-150, days + 1, dtype=float)
    phase = 2 * np.pi * (grid + first_day_of_year - PEAK_DAY_OF_YEAR) / 365.25
    pace = 1 + SEASON_SWING[season] * np.cos(phase)
    return grid, np.concatenate([[0], np.cumsum(pace)[:-1]])


def _touches(n: int, days: int, signed_up: np.ndarray, share: float, rng: np.random.Generator) -> pd.DataFrame:
    campaign_days = np.arange(CAMPAIGN_EVERY_DAYS, days, CAMPAIGN_EVERY_DAYS, dtype=float)
    chosen = (rng.random((n, len(campaign_days))) < share) & (signed_up[:, None] < campaign_days)
    customer, campaign = np.nonzero(chosen)
    action = rng.choice(len(ACTIONS), len(customer), p=PROPENSITIES)
    return pd.DataFrame({"customer": customer, "day": campaign_days[campaign], "action": action})


def _incidents(
    people: Lives,
    active: np.ndarray,
    day: np.ndarray,
    good_orders: np.ndarray,
    touched: np.ndarray,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw incidents of one order of each active customer, who leaves because of them, and days of return or NaN."""
    n = len(active)
    has_incident = rng.random(n) < INCIDENT_PROBABILITY
    severity = rng.choice(list(SEVERITY_SHARES), n, p=list(SEVERITY_SHARES.values()))
    leave_probability = np.array([LEAVE_PROBABILITY[s] for s in severity], dtype=float)
    leave_probability *= np.where(good_orders[active] >= 3, FORGIVENESS, 1.0)
    good_orders[active] = np.where(has_incident, 0, good_orders[active] + 1)
    leaves_untreated = has_incident & (rng.random(n) < leave_probability)
    leave_day = day + rng.uniform(*LEAVE_DELAY_DAYS, n)
    # a contact before the customer leaves, or soon after, may keep the customer or drive a sleeping dog away
    campaign = (leave_day // CAMPAIGN_EVERY_DAYS).astype(int)
    if people.campaigns == "strong":
        campaign = (day // CAMPAIGN_EVERY_DAYS).astype(int) + 1
    reached = (campaign * CAMPAIGN_EVERY_DAYS > day) & (campaign < touched.shape[1])
    action = touched[active, np.minimum(campaign, touched.shape[1] - 1)]
    effects = np.column_stack([true_effects(people)[active], np.zeros(n)])[np.arange(n), action]
    draw = rng.random(n)
    kept = leaves_untreated & reached & (draw < effects)
    driven_away = has_incident & ~leaves_untreated & reached & (draw < -effects)
    leaves = (leaves_untreated & ~kept) | driven_away
    contact_day = campaign * float(CAMPAIGN_EVERY_DAYS)
    won_back = kept & (contact_day > leave_day)
    return_day = np.full(n, np.nan)
    return_day[won_back] = contact_day[won_back] + rng.uniform(*WON_BACK_DAYS, won_back.sum())
    leave_day = np.where(driven_away, np.maximum(leave_day, contact_day), leave_day)
    people.left[active[leaves]] = np.minimum(people.left[active[leaves]], leave_day[leaves])
    orders = {
        "customer": active,
        "day": day,
        "aspect": np.where(has_incident, rng.choice(ASPECTS, n), "").astype(object),
        "severity": np.where(has_incident, severity, "").astype(object),
        "words_only": has_incident & (rng.random(n) < WORDS_ONLY_SHARE),
        "caused_leaving": leaves,
        "would_cause_leaving": leaves_untreated,
    }
    return pd.DataFrame(orders), return_day
