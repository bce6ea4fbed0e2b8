"""Lexical model: what single words of a customer's newest texts add to the tabular log-odds."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from inference.model.sequences import Sequences

#: Name of its contributions.
LEXICAL = "lexical_words"
#: Letters of scripts that do not separate words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
UNSEPARATED = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


class LexicalModel:
    """Logistic regression on words and pairs of words (TF-IDF), as a residual on the tabular log-odds.

    Scripts without blanks between words are read by one to three characters. The weights are shrunk towards zero, so
    that words which say nothing leave the tabular log-odds as they are.
    """

    #: Inverse strength of the regularisation, where a customer counts once over all snapshots.
    C = 0.3
    #: Most words and pairs, and fewest customers who wrote each: names and what one customer wrote stay out.
    max_terms, min_customers = 20_000, 10
    _vectorizer: TfidfVectorizer | None = None  # None where too few customers share a word

    def fit(self, texts: Sequence[str], y: np.ndarray, tabular_logit: np.ndarray, customers: np.ndarray) -> Self:
        """Learn from rows.

        Parameters
        ----------
        texts : sequence of str
            What each customer wrote, as of ``texts_of``; empty where nothing.
        y : ndarray of shape (n_rows,)
            1 for churned, else 0.
        tabular_logit : ndarray of shape (n_rows,)
            Log-odds of each row by members that were fitted on other customers.
        customers : ndarray of shape (n_rows,)
            Customer id of each row. Rows of one customer share a weight of 1, as their texts are mostly the same.
        """
        wrote = np.array([bool(text) for text in texts])
        number, different = pd.factorize(np.array([text for text in texts if text], dtype=object))
        unseparated = sum(len(UNSEPARATED.findall(text)) for text in different)
        by_character = 2 * unseparated > sum(map(len, different))
        analyzer, lengths = ("char", (1, 3)) if by_character else ("word", (1, 2))
        of_customer, n_rows = np.unique(customers[wrote], return_inverse=True, return_counts=True)[1:]
        newest = different[pd.Series(number).groupby(of_customer).last()]
        vectorizer = TfidfVectorizer(
            analyzer=analyzer, ngram_range=lengths, min_df=self.min_customers, max_features=self.max_terms
        )
        try:
            self._vectorizer = vectorizer.fit(newest)
        except ValueError:  # too few customers share a word
            return self
        X = csr_array(self._vectorizer.transform(different))[number]
        sign, offset, weight = 2.0 * y[wrote] - 1, tabular_logit[wrote], self.C / n_rows[of_customer]

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            margin = sign * (offset + X @ weights)
            gradient = weights - X.T @ (weight * sign * expit(-margin))
            return float(weights @ weights / 2 + weight @ np.logaddexp(0, -margin)), gradient

        self.weights_ = minimize(loss, np.zeros(X.shape[1]), jac=True, method="L-BFGS-B").x
        return self

    def residual(self, texts: Sequence[str]) -> np.ndarray:
        """Log-odds to add to the tabular ones, shape (n_rows,); 0 where there is no text."""
        if self._vectorizer is None:
            return np.zeros(len(texts))
        number, different = pd.factorize(np.array(texts, dtype=object))
        return (csr_array(self._vectorizer.transform(different)) @ self.weights_)[number]

    def strongest(self, n_terms: int) -> list[tuple[str, float]]:
        """Return the words with the largest weights, those that raise a score first, as term and weight."""
        if self._vectorizer is None:
            return []
        terms = self._vectorizer.get_feature_names_out()
        order = np.argsort(-self.weights_)
        chosen = np.unique(np.concatenate([order[:n_terms], order[-n_terms:]]))
        return sorted(((str(terms[i]), float(self.weights_[i])) for i in chosen), key=lambda pair: -pair[1])

    def save(self, folder: Path) -> None:
        """Write ``lexical.json``."""
        assert self._vectorizer is not None
        terms = self._vectorizer.get_feature_names_out().tolist()
        state = {
            "analyzer": self._vectorizer.analyzer,
            "lengths": self._vectorizer.ngram_range,
            "terms": terms,
            "idf": self._vectorizer.idf_.tolist(),
            "weights": self.weights_.tolist(),
        }
        (folder / "lexical.json").write_text(json.dumps(state, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``lexical.json``."""
        state, model = json.loads((folder / "lexical.json").read_text()), cls()
        model._vectorizer = TfidfVectorizer(
            analyzer=state["analyzer"],
            ngram_range=tuple(state["lengths"]),
            vocabulary=state["terms"],
        )
        model._vectorizer.idf_ = np.array(state["idf"])
        model.weights_ = np.array(state["weights"])
        return model


def texts_of(sequences: Sequences) -> list[str]:
    """Join the newest texts of each customer, the newest first; an empty text where there is none."""
    words = [*sequences.words, ""]  # position -1, the padding
    return ["\n".join(words[i] for i in row if i >= 0) for row in sequences.texts]
