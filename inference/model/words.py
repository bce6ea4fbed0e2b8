"""Words model: log-odds of churn from the pooled embedding of a customer's texts."""

from pathlib import Path
from typing import Self

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from inference.model.sequences import Columns

#: Column of the pooled embeddings, and the feature that this module computes from it.
EMBEDDING = "text_embedding"
WORDS_LOGIT = "words_logit"

#: Training rows with texts that are needed to fit a words model.
MIN_ROWS = 300


class WordsModel:
    """Logistic regression from a pooled embedding to log-odds of churn.

    Its log-odds are one more feature of the tabular members. In-sample log-odds would overfit, so ``fit_transform``
    returns cross-fitted ones: each customer is predicted by a model that was fitted on other customers.
    """

    #: Inverse strength of the regularisation.
    C = 1.0

    def fit_transform(self, embeddings: np.ndarray, y: np.ndarray, customers: np.ndarray) -> np.ndarray:
        """Fit, and return cross-fitted log-odds of the training rows, shape (n_rows,), NaN where there are no texts.

        Parameters
        ----------
        embeddings : ndarray of shape (n_rows, dimension)
            Pooled embeddings, NaN where a customer wrote nothing.
        y : ndarray of shape (n_rows,)
            1 for churned, else 0.
        customers : ndarray of shape (n_rows,)
            Customer id of each row.
        """
        wrote = ~np.isnan(embeddings[:, 0])
        result = np.full(len(y), np.nan)
        model, X, y = LogisticRegression(C=self.C, solver="newton-cholesky"), embeddings[wrote], y[wrote]
        result[wrote] = cross_val_predict(
            model, X, y, groups=customers[wrote], cv=GroupKFold(5), method="decision_function"
        )
        model.fit(X, y)
        self.coef_, self.intercept_ = model.coef_[0], float(model.intercept_[0])
        return result

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        """Log-odds of rows that were not fitted on, NaN where there are no texts."""
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
        words = cls()
        with np.load(folder / "words.npz") as state:
            words.coef_, words.intercept_ = state["coef"], float(state["intercept"])
        return words


def embedding_matrix(rows: Columns) -> np.ndarray | None:
    """Stack the pooled embeddings of rows, shape (n_rows, dimension), NaN where a customer wrote nothing.

    None where nobody wrote, or the shop has no texts.
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
    """Whether enough rows have texts, of churned customers and others, to fit a words model."""
    if embeddings is None:
        return False
    wrote = ~np.isnan(embeddings[:, 0])
    return wrote.sum() >= MIN_ROWS and min(np.bincount(y[wrote], minlength=2)) >= MIN_ROWS // 10
