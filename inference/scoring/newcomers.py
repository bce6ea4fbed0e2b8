"""Newcomers: a score that leans on what similar newcomers did, and an interval that says how little is known.

Hierarchical empirical Bayes on counts. The churn rate of a group of similar newcomers has a Beta prior made of its
siblings' counts, those of the kind of its parent's, and so on up to Jeffreys' prior, where nothing is known.
"""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import betaln, expit, ndtr, softmax
from scipy.stats import beta

from inference.scoring.reasons import count

KINDS = ("sign_up_only", "one_order")

#: Newcomers of one kind are similar when these numbers lie in the same bins; each edge belongs to the bin below it,
#: and what is unknown to the bin above the last.
BINS = {"days_since_start": (7, 14, 28, 56), "days_since_last_visit": (7, 30), "visit_days_30d": (2,)}

GROUP = ["kind", *BINS]

#: Probability that the interval holds.
LEVEL = 0.95

#: Jeffreys' prior of a rate: half an observation of each outcome.
JEFFREYS = 0.5

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of_date", pa.date32()),
        ("horizon_days", pa.int32()),
        ("kind", pa.string()),
        ("churn_probability", pa.float64()),
        ("probability_low", pa.float64()),
        ("probability_high", pa.float64()),
        ("similar_newcomers", pa.int64()),
        ("similar_churned", pa.int64()),
        ("reason", pa.string()),
        ("feature_snapshot_at", pa.timestamp("us")),
        ("scored_at", pa.timestamp("us")),
    ]
)


def score_newcomers(newcomers: pd.DataFrame, horizon_days: int) -> pa.Table:
    """Score the newcomers of the newest snapshot by what similar ones did at earlier snapshots.

    Parameters
    ----------
    newcomers : DataFrame
        ``int_newcomers``; rows whose ``churned`` is null teach nothing.
    horizon_days : int
        Length of the label window.

    Returns
    -------
    pyarrow.Table
        One row of ``SCHEMA`` per newcomer of the newest snapshot, ordered by customer.
    """
    newest = newcomers[newcomers.is_newest].sort_values("customer_id", ignore_index=True)
    if newest.empty:
        return SCHEMA.empty_table()
    rates = group_rates(newcomers)
    similar = rates.loc[pd.MultiIndex.from_frame(_binned(newest)[GROUP])].reset_index(drop=True)
    scored = newest[["customer_id", "as_of_date", "kind"]].join(similar)
    scored["horizon_days"] = horizon_days
    scored["reason"] = _reasons(newest.join(similar), horizon_days)
    scored["feature_snapshot_at"] = pd.to_datetime(scored.as_of_date)
    scored["scored_at"] = datetime.now(UTC).replace(tzinfo=None)
    return pa.Table.from_pandas(scored[SCHEMA.names], SCHEMA, preserve_index=False, safe=False)


def group_rates(newcomers: pd.DataFrame) -> pd.DataFrame:
    """Churn rate of every group of similar newcomers, and how well it is known.

    A group counts as many observations as it has customers, at the rate of all its rows: a customer of several
    snapshots is one customer, and no row is preferred, which would favour those who stayed newcomers longer.

    Parameters
    ----------
    newcomers : DataFrame
        ``int_newcomers``.

    Returns
    -------
    DataFrame
        Indexed by ``GROUP``, a row per group with anybody in it: ``churn_probability``, ``probability_low``,
        ``probability_high``, ``similar_newcomers`` and ``similar_churned``.
    """
    binned = _binned(newcomers)
    labelled = binned[binned.churned.notna()]
    groups = _observations(labelled, GROUP).reindex(pd.MultiIndex.from_frame(binned[GROUP].drop_duplicates()))
    groups = groups.fillna(0.0).sort_index()
    kinds = _observations(labelled, ["kind"]).reindex(pd.Index(KINDS, name="kind")).fillna(0.0)
    nothing = pd.Series({"churned": 0.0, "stayed": 0.0})
    above = lent_by_siblings(kinds, labelled.customer_id.nunique(), nothing)
    lent = pd.concat(
        lent_by_siblings(members, kinds.loc[kind].sum(), above.loc[kind]) for kind, members in groups.groupby("kind")
    )
    known = groups + lent + JEFFREYS
    tail = (1 - LEVEL) / 2
    return pd.DataFrame(
        {
            "churn_probability": known.churned / (known.churned + known.stayed),
            "probability_low": beta.ppf(tail, known.churned, known.stayed),
            "probability_high": beta.ppf(1 - tail, known.churned, known.stayed),
            "similar_newcomers": (groups.churned + groups.stayed).round().astype("int64"),
            "similar_churned": groups.churned.round().astype("int64"),
        }
    )


def lent_by_siblings(members: pd.DataFrame, customers: float, above: pd.Series) -> pd.DataFrame:
    """Observations that each member of a family borrows from its siblings.

    The rate of a member has mean ``m``, the parent's posterior mean without the member itself, and varies around it
    by the likeness of the family. If that posterior is worth ``n`` observations and the likeness ``s``, the Beta
    with the same mean and variance is worth ``s n / (s + n + 1)``: all of ``n`` where members are alike, none where
    they have nothing in common.

    Parameters
    ----------
    members : DataFrame of shape (n_members, 2)
        Observations ``churned`` and ``stayed`` of each.
    customers : float
        Different customers in the family: one who belongs to several members lends once.
    above : Series
        Observations that the parent itself borrowed: ``churned`` and ``stayed``.

    Returns
    -------
    DataFrame of shape (n_members, 2)
        ``churned`` and ``stayed``, not whole numbers.
    """
    total = members.to_numpy().sum()
    once = customers / total if total else 1.0
    parent = once * (members.sum() - members) + above + JEFFREYS
    worth, likeness = parent.sum(axis=1), family_likeness(members)
    return parent.mul(likeness / (likeness + worth + 1), axis=0)


def family_likeness(members: pd.DataFrame) -> float:
    """How alike the rates of a family's members are, in observations.

    Rates are Beta(m s, (1 - m) s), so counts are beta-binomial with an intraclass correlation of 1 / (s + 1). Its
    posterior mean is taken, with uniform priors of it and of the mean rate ``m``, and not the likelihood's maximum:
    that is at no variation at all (s infinite) for many a family of few members.

    Parameters
    ----------
    members : DataFrame of shape (n_members, 2)
        Observations ``churned`` and ``stayed`` of each.

    Returns
    -------
    float
        s: 1 where nothing is known, large where rates hardly differ.
    """
    counts = members[members.sum(axis=1) > 0].to_numpy()
    # dense where the mean must lie if members are alike
    alike = beta.ppf(ndtr(np.linspace(-5, 5, 60)), *(counts.sum(axis=0) + JEFFREYS))
    mean = np.unique(np.concatenate([np.linspace(0.01, 0.99, 40), alike]))
    logit = np.linspace(-12, 12, 161)[:, None]
    correlation, s = expit(logit), np.exp(-logit)
    a, b = mean * s, (1 - mean) * s
    likelihood = -len(counts) * betaln(a, b)
    for churned, stayed in counts:
        likelihood += betaln(churned + a, stayed + b)
    # weights of the grid: uniform in the mean, and in the correlation, of which the grid has the logits
    posterior = softmax(likelihood + np.log(np.gradient(mean)) + np.log(correlation * (1 - correlation)))
    return float(1 / (posterior * correlation).sum() - 1)


def _binned(newcomers: pd.DataFrame) -> pd.DataFrame:
    # not a number sorts after every edge
    bins = {name: np.searchsorted(edges, newcomers[name].astype(float)) for name, edges in BINS.items()}
    return newcomers.assign(**bins)


def _observations(labelled: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    summary = labelled.groupby(by).agg(rate=("churned", "mean"), customers=("customer_id", "nunique"))
    return pd.DataFrame(
        {"churned": summary.rate * summary.customers, "stayed": (1 - summary.rate) * summary.customers}, dtype=float
    )


def _reasons(rows: pd.DataFrame, horizon_days: int) -> list[str]:
    return [f"{_story(row)}; {_evidence(row, horizon_days)}" for row in rows.to_dict("records")]


def _story(row: dict) -> str:
    start = f"{count(row['days_since_start'], 'day')} ago"
    text = f"one order {start}" if row["kind"] == "one_order" else f"first seen {start}, no order yet"
    if pd.isna(row["visit_days_30d"]):
        return text
    if pd.isna(row["days_since_last_visit"]):
        return f"{text}, no visit seen"
    if row["days_since_last_visit"] >= row["days_since_start"]:
        return f"{text}, no visit since"
    return f"{text}, last visit {count(row['days_since_last_visit'], 'day')} ago"


def _evidence(row: dict, horizon_days: int) -> str:
    if not row["similar_newcomers"]:
        return "no similar newcomer's outcome is known yet"
    similar = count(row["similar_newcomers"], "similar newcomer")
    return f"of {similar} {row['similar_churned']:,} did not order within {count(horizon_days, 'day')}"
