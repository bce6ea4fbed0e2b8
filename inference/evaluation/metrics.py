"""Metrics of churn probabilities against outcomes."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_recall_curve,
    recall_score,
    roc_auc_score,
)

#: Machine epsilon of float64, 2.2e-16.
EPSILON = np.finfo(float).eps


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one score on one set of customers; probabilities and rates from 0 to 1."""

    n_customers: int
    churn_rate: float
    mean_probability: float
    auroc: float
    auroc_low: float
    auroc_high: float
    pr_auc: float
    log_loss: float
    brier: float
    ece: float
    level_error: float
    threshold: float
    f1: float
    recall: float
    top_decile_lift: float

    def to_dict(self) -> dict[str, float]:
        """Return the metrics by name."""
        return asdict(self)


def evaluate(churned: np.ndarray, probability: np.ndarray, threshold: float) -> Evaluation:
    """Compare probabilities with outcomes.

    Parameters
    ----------
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0; both must occur.
    probability : ndarray of shape (n_customers,)
        Predicted probability of churn.
    threshold : float
        Customers at or above it are classified as churners, for F1 and recall.

    Returns
    -------
    Evaluation
    """
    y, p = np.asarray(churned, dtype=int), np.asarray(probability, dtype=float)
    auroc, low, high = auroc_interval(y, p)
    predicted = p >= threshold
    return Evaluation(
        n_customers=len(y),
        churn_rate=float(y.mean()),
        mean_probability=float(p.mean()),
        auroc=auroc,
        auroc_low=low,
        auroc_high=high,
        pr_auc=float(average_precision_score(y, p)),
        log_loss=float(log_losses(y, p).mean()),
        brier=float(brier_score_loss(y, p)),
        ece=expected_calibration_error(y, p),
        level_error=float(p.mean() - y.mean()),
        threshold=float(threshold),
        f1=float(f1_score(y, predicted, zero_division=0.0)),
        recall=float(recall_score(y, predicted, zero_division=0.0)),
        top_decile_lift=top_decile_lift(y, p),
    )


def auroc_interval(churned: np.ndarray, score: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Area under the ROC curve with its confidence interval.

    The variance is DeLong's, computed from mid-ranks (DeLong, DeLong and Clarke-Pearson 1988; Sun and Xu 2014).

    Parameters
    ----------
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0; both must occur.
    score : ndarray of shape (n_customers,)
        Probability or log-odds; only the order matters.
    level : float
        Confidence level.

    Returns
    -------
    tuple of float
        Area, lower and upper end; the ends are NaN with fewer than two customers of either outcome.
    """
    positive, negative = score[churned == 1], score[churned == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above_negatives = (ranks[:m] - rankdata(positive)) / n
    below_positives = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(roc_auc_score(churned, score))
    variance = above_negatives.var(ddof=1) / m + below_positives.var(ddof=1) / n if min(m, n) > 1 else np.nan
    half = norm.ppf(0.5 + level / 2) * np.sqrt(variance)
    return area, float(max(area - half, 0)), float(min(area + half, 1))


def log_losses(churned: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Log-loss of each row in nats, shape (n_rows,); probabilities are clipped as in scikit-learn and in SQL."""
    p = np.clip(np.asarray(probability, dtype=float), EPSILON, 1 - EPSILON)
    return -np.log(np.where(np.asarray(churned) == 1, p, 1 - p))


def expected_calibration_error(churned: np.ndarray, probability: np.ndarray, n_bins: int = 10) -> float:
    """Mean absolute difference of predicted and observed rates over bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.bincount(bins, weights=probability - churned, minlength=n_bins)
    return float(np.abs(gaps).sum() / counts.sum())


def top_decile_lift(churned: np.ndarray, probability: np.ndarray) -> float:
    """Churn rate of the tenth of customers at highest risk, divided by the churn rate of all."""
    n_top = max(1, round(len(churned) / 10))
    top = np.argsort(-probability, kind="stable")[:n_top]
    return float(churned[top].mean() / churned.mean())


def best_f1_threshold(churned: np.ndarray, probability: np.ndarray) -> float:
    """Probability threshold with the highest F1."""
    precision, recall, thresholds = precision_recall_curve(churned, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


def expected_maximum_profit(
    churned: np.ndarray,
    probability: np.ndarray,
    clv: float = 200.0,
    incentive_cost: float = 10.0,
    contact_cost: float = 1.0,
    accepted: tuple[float, float] = (6.0, 14.0),
) -> float:
    """Expected maximum profit per customer of a retention campaign: EMPC of Verbraken, Verbeke and Baesens (2013).

    A campaign contacts the customers at highest risk, as many as maximise profit. Each contact costs ``contact_cost``.
    A customer who would stay takes the incentive; a churner takes it and stays with probability ``gamma``, which is
    beta distributed. The result is the expectation over ``gamma``, at the optimal number of contacts for each, of

        clv * (gamma * (1 - delta) - phi) * churners - clv * (delta + phi) * stayers

    where churners and stayers are the contacted shares of all customers, and delta and phi are ``incentive_cost`` and
    ``contact_cost`` over ``clv``. Only the order of the probabilities matters. The defaults are the paper's: raw
    tables hold no margins, so the value compares scores and does not forecast the shop's profit.

    Parameters
    ----------
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0; both must occur.
    probability : ndarray of shape (n_customers,)
        Predicted probability of churn.
    clv : float
        Value of a customer who stays, in money.
    incentive_cost, contact_cost : float
        Cost of an accepted incentive and of a contact, in money.
    accepted : tuple of float
        Parameters of the beta distribution of ``gamma``; its mean is 0.3 by default.

    Returns
    -------
    float
    """
    from empulse.metrics import empc_score  # takes a second to import

    return float(
        empc_score(
            np.asarray(churned),
            np.asarray(probability),
            alpha=accepted[0],
            beta=accepted[1],
            clv=clv,
            incentive_cost=incentive_cost,
            contact_cost=contact_cost,
        )
    )
