"""Words as a residual on the tabular log-odds."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from inference.model.lexical import LexicalModel

WORDS = ["box", "late", "parcel", "shop", "tea", "thanks"]


def texts(words: list[str], n_customers: int = 400, seed: int = 0) -> list[str]:
    """Three random words each."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, 3, replace=False)) for _ in range(n_customers)]


def leavers(written: list[str], word: str, seed: int = 0) -> np.ndarray:
    """Nine of ten who wrote the word leave, one of ten others."""
    rng = np.random.default_rng(seed)
    return (rng.random(len(written)) < [0.9 if word in text else 0.1 for text in written]).astype(int)


def fitted(written: list[str], y: np.ndarray, logit: float = 0.0, customers: np.ndarray | None = None) -> LexicalModel:
    customers = np.arange(len(y)) if customers is None else customers
    return LexicalModel().fit(written, y, np.full(len(y), logit), customers)


def test_a_word_that_tells_raises_the_score_and_others_lower_it():
    written = texts(WORDS)
    model = fitted(written, leavers(written, "late"))
    late, tea, nothing = model.residual(["late", "tea", ""])
    assert late > 0.5 > 0 > tea
    assert nothing == 0
    (first, weight), *_ = model.strongest(3)
    assert (first, weight > 0) == ("late", True)
    assert len(model.strongest(3)) == 6


def test_words_of_scripts_without_blanks_are_found():
    written = ["".join(text.split()) for text in texts(["很慢", "包裹", "茶叶", "谢谢", "商店"])]
    model = fitted(written, leavers(written, "很慢"))
    assert model.residual(["物流很慢"])[0] > 0.5


def test_what_the_tabular_score_knows_already_is_not_learned_again():
    written = texts(WORDS)
    y = leavers(written, "late")
    known = np.array([np.log(9) if "late" in text else -np.log(9) for text in written])
    model = LexicalModel().fit(written, y, known, np.arange(len(y)))
    assert np.abs(model.residual(["late", "tea"])).max() < 0.2


def test_a_customer_counts_once_however_many_snapshots_there_are():
    written = texts(WORDS, 100)
    y = leavers(written, "late")
    often = np.repeat(np.arange(100), 7)
    again = fitted([written[i] for i in often], y[often], customers=often)
    np.testing.assert_allclose(again.residual(WORDS), fitted(written, y).residual(WORDS), atol=1e-3)


def test_without_an_offset_it_is_ridge_logistic_regression():
    written = texts(WORDS, 200)
    y = leavers(written, "late")
    model = fitted(written, y)
    X = model._vectorizer.transform(written)
    expected = LogisticRegression(C=LexicalModel.C, fit_intercept=False, tol=1e-8, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(model.residual(written), expected.decision_function(X), atol=1e-3)


def test_a_saved_model_gives_the_same_residuals(tmp_path):
    written = texts(WORDS)
    model = fitted(written, leavers(written, "late"))
    model.save(tmp_path)
    np.testing.assert_array_equal(LexicalModel.load(tmp_path).residual(written), model.residual(written))


def test_what_few_customers_wrote_is_no_term():
    written = [*texts(WORDS), *["anna smith"] * (LexicalModel.min_customers - 1)]
    terms = dict(fitted(written, leavers(written, "late")).strongest(100))
    assert "smith" not in terms
    assert "late" in terms


@pytest.mark.parametrize("written", [["!!!"] * 40, ["fine tea"] * 3 + [""] * 37, [f"word{i}" for i in range(40)]])
def test_texts_that_share_no_words_add_nothing(written):
    model = fitted(written, np.arange(40) % 2)
    assert not model.residual([*written, "tea"]).any()
    assert model.strongest(3) == []
