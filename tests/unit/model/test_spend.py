from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.model.spend import SpendModel


def make_orders(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Half of the customers spend 20, half 200, give or take a fifth."""
    rng = np.random.default_rng(seed)
    big = np.arange(n) % 2
    X = pd.DataFrame({"big": big.astype(float), "noise": rng.normal(size=n)})
    return X, np.where(big == 1, 200, 20) * rng.uniform(0.8, 1.2, n)


@pytest.fixture(scope="module")
def fitted() -> SpendModel:
    return SpendModel().fit(*make_orders())


def test_learns_who_spends_much(fitted: SpendModel) -> None:
    small, big = fitted.predict(pd.DataFrame({"big": [0.0, 1.0], "noise": [0.0, 0.0]}))
    assert small == pytest.approx(20, rel=0.15)
    assert big == pytest.approx(200, rel=0.15)


def test_predicts_the_mean_not_the_median_of_skewed_amounts() -> None:
    # nine in ten orders are free; the tenth costs 100, or 1,000 where ``big``
    paid, big = np.arange(2000) % 10 == 0, np.arange(2000) >= 1000
    X = pd.DataFrame({"big": big.astype(float)})
    small, large = SpendModel().fit(X, paid * np.where(big, 1000.0, 100.0)).predict(X.iloc[[0, -1]])
    assert small == pytest.approx(10, rel=0.05)
    assert large == pytest.approx(100, rel=0.05)


def test_a_hundred_orders_carry_a_model_and_fewer_their_mean() -> None:
    X, spend = make_orders(100)
    assert len(set(SpendModel().fit(X, spend).predict(X))) > 1
    np.testing.assert_allclose(SpendModel().fit(X[1:], spend[1:]).predict(X), np.full(100, spend[1:].mean()))


def test_three_orders_give_their_mean() -> None:
    X = pd.DataFrame({"big": [0.0, 1.0, 1.0]})
    assert list(SpendModel().fit(X, np.array([10.0, 20.0, 60.0])).predict(X[:2])) == [30.0, 30.0]


def test_nobody_ordered_means_nothing_is_expected() -> None:
    X = pd.DataFrame({"big": [0.0, 1.0]})
    assert list(SpendModel().fit(X[:0], np.array([])).predict(X)) == [0.0, 0.0]


def test_free_orders_only_mean_nothing_is_expected() -> None:
    X, _ = make_orders(200)
    assert list(SpendModel().fit(X, np.zeros(200)).predict(X[:2])) == [0.0, 0.0]


def test_is_never_below_zero_nulls_included(fitted: SpendModel) -> None:
    X = pd.DataFrame({"big": [-1e9, 1e9, np.nan], "noise": [np.nan, -50.0, 50.0]})
    assert (fitted.predict(X) >= 0).all()


def test_the_same_data_give_the_same_model(fitted: SpendModel) -> None:
    X, spend = make_orders()
    np.testing.assert_array_equal(SpendModel().fit(X, spend).predict(X), fitted.predict(X))


def test_a_saved_model_answers_bit_for_bit_the_same(fitted: SpendModel, tmp_path: Path) -> None:
    X, _ = make_orders(seed=1)
    fitted.save(tmp_path)
    np.testing.assert_array_equal(SpendModel.load(tmp_path, 110.0, fitted.scale_).predict(X), fitted.predict(X))


def test_a_saved_mean_comes_back(tmp_path: Path) -> None:
    X = pd.DataFrame({"big": [0.0, 1.0]})
    SpendModel().fit(X, np.array([10.0, 20.0])).save(tmp_path)
    assert list(SpendModel.load(tmp_path, 15.0, 1.0).predict(X)) == [15.0, 15.0]


def test_the_mean_prediction_is_the_mean_of_what_was_spent() -> None:
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"a": rng.normal(size=800), "b": rng.normal(size=800)})
    spend = rng.gamma(0.5, 60, 800)
    assert SpendModel().fit(X, spend).predict(X).mean() == pytest.approx(spend.mean())
