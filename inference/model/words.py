"""What words add: one number per customer, learned from the pooled embedding of what they wrote."""

from pathlib import Path
from typing import Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from inference.model.sequences import Columns

#: Feature that carries a customer's pooled embedding, and the one that this module makes of it.
EMBEDDING = "text_embedding"
WORDS_LOGIT = "words_logit"

#: Fewer training rows with words than this carry no model.
LEAST_ROWS = 300


class WordsModel:
    """Logistic regression from a pooled embedding to log-odds of churn.

    The members read its log-odds as one more feature. On the rows that it learns from they must not see
    what it knows by heart, so ``fit_transform`` predicts each customer from the others.

    Parameters
    ----------
    C : float
        Inverse strength of the regularisation.
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit_transform(self, embeddings: np.ndarray, y: np.ndarray, customers: np.ndarray) -> np.ndarray:
        """Learn, and return each training row's log-odds as predicted from other customers.

        Parameters
        ----------
        embeddings : ndarray of shape (n_rows, dimension)
            Pooled embeddings, NaN where a customer wrote nothing.
        y : ndarray of shape (n_rows,)
            1 for churned, else 0.
        customers : ndarray of shape (n_rows,)
            Whose row it is.

        Returns
        -------
        ndarray of shape (n_rows,)
            Log-odds, NaN where there were no words.
        """
        wrote = ~np.isnan(embeddings[:, 0])
        result = np.full(len(y), np.nan)
        model = LogisticRegression(C=self.C, solver="newton-cholesky")
        result[wrote] = cross_val_predict(
            model,
            embeddings[wrote],
            y[wrote],
            groups=customers[wrote],
            cv=GroupKFold(5),
            method="decision_function",
        )
        model.fit(embeddings[wrote], y[wrote])
        self.coef_, self.intercept_ = model.coef_[0], float(model.intercept_[0])
        return result

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Log-odds of rows that were not learned from, NaN where there were no words."""
        wrote = ~np.isnan(embeddings[:, 0])
        result = np.full(len(embeddings), np.nan)
        if wrote.any():
            result[wrote] = embeddings[wrote] @ self.coef_ + self.intercept_
        return result

    def save(self, folder: Path) -> None:
        """Write ``words.npz``."""
        np.savez(folder / "words.npz", C=self.C, coef=self.coef_, intercept=self.intercept_)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``words.npz``."""
        with np.load(folder / "words.npz") as state:
            words = cls(float(state["C"]))
            words.coef_, words.intercept_ = state["coef"], float(state["intercept"])
        return words


def embedding_matrix(rows: Columns) -> np.ndarray | None:
    """Stack the pooled embeddings of rows.

    Returns
    -------
    ndarray of shape (n_rows, dimension) or None
        NaN where a customer wrote nothing; None where nobody wrote, or the shop has no texts.
    """
    if EMBEDDING not in rows:
        return None
    wrote = np.array([v is not None and np.ndim(v) == 1 and len(v) > 0 for v in rows[EMBEDDING]], dtype=bool)
    if not wrote.any():
        return None
    written = np.vstack([v for v, own in zip(rows[EMBEDDING], wrote, strict=True) if own]).astype(np.float64)
    matrix = np.full((len(wrote), written.shape[1]), np.nan)
    matrix[wrote] = written
    return matrix


def enough_words(embeddings: np.ndarray | None, y: np.ndarray) -> bool:
    """Whether rows hold enough words, of customers who stayed and who left, to learn from."""
    if embeddings is None:
        return False
    wrote = ~np.isnan(embeddings[:, 0])
    return wrote.sum() >= LEAST_ROWS and min(np.bincount(y[wrote], minlength=2)) >= LEAST_ROWS // 10
