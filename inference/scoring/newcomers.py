"""Scores of newcomers: churn rates of similar earlier newcomers, with credible intervals.

Hierarchical empirical Bayes on counts. The churn rate of a group of similar newcomers has a Beta prior from the counts
of the other groups of its kind; the rate of a kind has one from the other kinds and Jeffreys' prior.
"""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import betaln, expit, ndtr, softmax
from scipy.stats import beta

from inference.scoring.reasons import count

KINDS = ("sign_up_only", "one_order")

#: Newcomers of one kind are similar if these numbers fall into the same bins. An edge belongs to the bin below it, and
#: unknown values to the last bin.
BINS = {"days_since_start": (7, 14, 28, 56), "days_since_last_visit": (7, 30), "visit_days_30d": (2,)}

GROUP = ["kind", *BINS]

#: Probability of the credible interval.
LEVEL = 0.95

#: Jeffreys' prior of a rate, in observations of each outcome.
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
    """Score the newcomers of the newest snapshot by the outcomes of similar ones at earlier snapshots.

    ``newcomers`` are ``int_newcomers``; rows whose ``churned`` is null do not count as outcomes. Returns one row of
    ``SCHEMA`` per newcomer of the newest snapshot, ordered by customer.
    """
    newest = newcomers[newcomers.is_newest].sort_values("customer_id", ignore_index=True)
    if newest.empty:
        return SCHEMA.empty_table()
    rates = group_rates(newcomers)
    similar = rates.loc[pd.MultiIndex.from_frame(_binned(newest)[GROUP])].reset_index(drop=True)
    scored = newest[["customer_id", "as_of_date", "kind"]].join(similar)
    scored["horizon_days"] = horizon_days
    scored["reason"] = [_reason(row, horizon_days) for row in newest.join(similar).to_dict("records")]
    scored["feature_snapshot_at"] = pd.to_datetime(scored.as_of_date)
    scored["scored_at"] = datetime.now(UTC).replace(tzinfo=None)
    return pa.Table.from_pandas(scored[SCHEMA.names], SCHEMA, preserve_index=False, safe=False)


def group_rates(newcomers: pd.DataFrame) -> pd.DataFrame:
    """Churn rate of every group of similar newcomers (rows of ``int_newcomers``), with its credible interval.

    A group has as many observations as customers, at the mean rate of all its rows. A customer of several snapshots
    counts once, and no row is preferred: that would favour customers who stayed newcomers longer.

    Returns
    -------
    DataFrame
        Indexed by ``GROUP``, one row per group that is not empty: ``churn_probability``, ``probability_low``,
        ``probability_high``, ``similar_newcomers`` and ``similar_churned``.
    """
    binned = _binned(newcomers)
    labelled = binned[binned.churned.notna()]
    groups = _observations(labelled, GROUP).reindex(pd.MultiIndex.from_frame(binned[GROUP].drop_duplicates()))
    groups = groups.fillna(0.0).sort_index()
    kinds = _observations(labelled, ["kind"]).reindex(pd.Index(KINDS, name="kind")).fillna(0.0)
    no_prior = pd.Series({"churned": 0.0, "stayed": 0.0})
    of_kinds = sibling_prior(kinds, labelled.customer_id.nunique(), no_prior)
    of_groups = pd.concat(
        sibling_prior(members, kinds.loc[kind].sum(), of_kinds.loc[kind]) for kind, members in groups.groupby("kind")
    )
    posterior = groups + of_groups + JEFFREYS
    tail = (1 - LEVEL) / 2
    return pd.DataFrame(
        {
            "churn_probability": posterior.churned / (posterior.churned + posterior.stayed),
            "probability_low": beta.ppf(tail, posterior.churned, posterior.stayed),
            "probability_high": beta.ppf(1 - tail, posterior.churned, posterior.stayed),
            "similar_newcomers": (groups.churned + groups.stayed).round().astype("int64"),
            "similar_churned": groups.churned.round().astype("int64"),
        }
    )


def sibling_prior(members: pd.DataFrame, customers: float, parent_prior: pd.Series) -> pd.DataFrame:
    """Beta prior of each member of a family from its siblings, as counts of observations.

    The rate of a member has mean ``m``, the parent's posterior mean without the member itself, and varies around it
    with the concentration ``s`` of the family. If that posterior is worth ``n`` observations, the Beta distribution
    with the same mean and variance is worth ``s n / (s + n + 1)``: near ``n`` where all rates are equal, near 0 where
    they vary without limit.

    Parameters
    ----------
    members : DataFrame of shape (n_members, 2)
        Observations ``churned`` and ``stayed`` of each, as in the result, which are not whole numbers.
    customers : float
        Distinct customers of the family: one who belongs to several members counts once.
    parent_prior : Series
        Prior of the parent, as counts: ``churned`` and ``stayed``.
    """
    total = members.to_numpy().sum()
    once = customers / total if total else 1.0
    parent = once * (members.sum() - members) + parent_prior + JEFFREYS
    n, s = parent.sum(axis=1), concentration(members)
    return parent.mul(s / (s + n + 1), axis=0)


def concentration(members: pd.DataFrame) -> float:
    """Concentration of the Beta distribution of a family's rates, in observations.

    Rates are Beta(m s, (1 - m) s), so counts are beta-binomial with an intraclass correlation of 1 / (s + 1). The
    estimate is the posterior mean of that correlation, with uniform priors of it and of the mean rate ``m``. The
    maximum of the likelihood would often be at no variation (infinite s) for families of few members.

    ``members`` are observations ``churned`` and ``stayed``, shape (n_members, 2). The result is 1 without
    observations, and large where rates hardly differ.
    """
    counts = members[members.sum(axis=1) > 0].to_numpy()
    # a denser grid where the mean lies if all rates are equal
    dense = beta.ppf(ndtr(np.linspace(-5, 5, 60)), *(counts.sum(axis=0) + JEFFREYS))
    mean = np.unique(np.concatenate([np.linspace(0.01, 0.99, 40), dense]))
    logit = np.linspace(-12, 12, 161)[:, None]
    correlation, s = expit(logit), np.exp(-logit)
    a, b = mean * s, (1 - mean) * s
    likelihood = -len(counts) * betaln(a, b)
    for churned, stayed in counts:
        likelihood += betaln(churned + a, stayed + b)
    # weights of the grid: uniform in the mean and in the correlation, whose grid is uniform in logits
    posterior = softmax(likelihood + np.log(np.gradient(mean)) + np.log(correlation * (1 - correlation)))
    return float(1 / (posterior * correlation).sum() - 1)


def _binned(newcomers: pd.DataFrame) -> pd.DataFrame:
    # NaN sorts after every edge
    bins = {name: np.searchsorted(edges, newcomers[name].astype(float)) for name, edges in BINS.items()}
    return newcomers.assign(**bins)


def _observations(labelled: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    summary = labelled.groupby(by).agg(rate=("churned", "mean"), customers=("customer_id", "nunique"))
    return pd.DataFrame(
        {"churned": summary.rate * summary.customers, "stayed": (1 - summary.rate) * summary.customers}, dtype=float
    )


def _reason(row: dict, horizon_days: int) -> str:
    if row["similar_newcomers"]:
        similar = count(row["similar_newcomers"], "similar newcomer")
        outcomes = f"of {similar} {row['similar_churned']:,} did not order within {count(horizon_days, 'day')}"
    else:
        outcomes = "no similar newcomer's outcome is known yet"
    return f"{_history(row)}; {outcomes}"


def _history(row: dict) -> str:
    start = f"{count(row['days_since_start'], 'day')} ago"
    text = f"one order {start}" if row["kind"] == "one_order" else f"first seen {start}, no order yet"
    if pd.isna(row["visit_days_30d"]):
        return text
    if pd.isna(row["days_since_last_visit"]):
        return f"{text}, no visit seen"
    if row["days_since_last_visit"] >= row["days_since_start"]:
        return f"{text}, no visit since"
    return f"{text}, last visit {count(row['days_since_last_visit'], 'day')} ago"
