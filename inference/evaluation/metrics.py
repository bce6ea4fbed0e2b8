"""Metrics of churn probabilities against outcomes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
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


def auroc_interval(churned: np.ndarray, score: np.ndarray) -> tuple[float, float, float]:
    """Area under the ROC curve, and lower and upper end of its 95 % interval.

    The ends are NaN with fewer than two customers of either outcome. The variance is DeLong's, computed from mid-ranks
    (DeLong, DeLong and Clarke-Pearson 1988; Sun and Xu 2014).

    Parameters
    ----------
    churned : ndarray of shape (n_customers,)
        1 for those who churned, else 0; both must occur.
    score : ndarray of shape (n_customers,)
        Probability or log-odds; only the order matters.
    """
    positive, negative = score[churned == 1], score[churned == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above_negatives = (ranks[:m] - rankdata(positive)) / n
    below_positives = 1 - (ranks[m:] - rankdata(negative)) / m
    area = float(roc_auc_score(churned, score))
    variance = above_negatives.var(ddof=1) / m + below_positives.var(ddof=1) / n if min(m, n) > 1 else np.nan
    half = norm.ppf(0.975) * np.sqrt(variance)
    return area, float(max(area - half, 0)), float(min(area + half, 1))


def log_losses(churned: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Log-loss of each row in nats, shape (n_rows,); probabilities are clipped as in scikit-learn and in SQL."""
    p = np.clip(np.asarray(probability, dtype=float), EPSILON, 1 - EPSILON)
    return -np.log(np.where(np.asarray(churned) == 1, p, 1 - p))


def expected_calibration_error(churned: np.ndarray, probability: np.ndarray) -> float:
    """Mean absolute difference of predicted and observed rates over ten bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((probability * 10).astype(int), 9)
    return float(np.abs(np.bincount(bins, weights=probability - churned)).sum() / len(bins))


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


def paired_gain(differences: np.ndarray, customers: np.ndarray, errors: float = 1.96) -> dict[str, float]:
    """Mean of paired differences of losses, with the ``low`` and ``high`` end of its confidence interval.

    Snapshots of one customer are not independent, so the sampling unit is the customer (variance of a ratio
    estimator, Cochran 1977, section 6.3).

    Parameters
    ----------
    differences : ndarray of shape (n_rows,)
        Loss of the reference minus loss of the candidate.
    customers : ndarray of shape (n_rows,)
        Customer of each row.
    errors : float
        Half the width of the interval in standard errors; 1.96 give 95 %.
    """
    gain = pd.Series(differences).groupby(customers).agg(["sum", "size"])
    mean = gain["sum"].sum() / gain["size"].sum()
    deviation = gain["sum"] - mean * gain["size"]
    error = np.sqrt((deviation**2).sum()) / gain["size"].sum()
    return {"mean": float(mean), "low": float(mean - errors * error), "high": float(mean + errors * error)}
