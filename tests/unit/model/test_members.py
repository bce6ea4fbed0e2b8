import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from inference.model.members import MEMBERS, LogisticMember, Member
from inference.model.preprocessing import Standardiser, signed_log

both_members = pytest.mark.parametrize("name", ["logistic", "boosting"])


def make_data(n: int = 600, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """``silence`` drives churn, ``spend`` does not; those who never rated leave more often."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "silence": rng.uniform(0, 90, n),
            "rating": np.where(rng.random(n) < 0.5, np.nan, rng.integers(1, 6, n)),
            "spend": rng.gamma(2, 50, n),
        }
    )
    logit = (X.silence - 45) / 15 + np.where(X.rating.isna(), 1.0, -1.0)
    return X, (rng.random(n) < expit(logit)).astype(int)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Member]:
    X, y = make_data()
    return {name: MEMBERS[name]().fit(X, y) for name in ("logistic", "boosting")}


@pytest.fixture(scope="module")
def unseen() -> pd.DataFrame:
    """Other customers; the last three know less than anybody in training."""
    X, _ = make_data(100, seed=1)
    X.iloc[-3, 0] = np.nan
    X.iloc[-2, 2] = np.nan
    X.iloc[-1] = np.nan
    return X


def test_logistic_is_listed_before_boosting() -> None:
    assert list(MEMBERS) == ["logistic", "boosting"]


def test_signed_log_tames_money_and_keeps_its_sign() -> None:
    values = np.array([0, np.e - 1, 1 - np.e, np.e**3 - 1, np.nan])
    np.testing.assert_allclose(signed_log(values), [0, 1, -1, 3, np.nan])


def test_outliers_are_clipped_at_six_standard_deviations() -> None:
    standardiser = Standardiser().fit(np.array([[0.0], [1.0], [2.0]]))
    assert standardiser.transform(np.array([[-1e9], [1e9]])).tolist() == [[-6.0], [6.0]]


@both_members
def test_finds_what_drives_churn(fitted: dict[str, Member], name: str) -> None:
    customers = pd.DataFrame({"silence": [5.0, 85.0], "rating": [3.0, 3.0], "spend": [100.0, 100.0]})
    recent, silent = expit(fitted[name].logit(customers))
    assert recent < 0.3
    assert silent > 0.6


@both_members
def test_what_is_missing_is_itself_a_signal(fitted: dict[str, Member], name: str) -> None:
    customers = pd.DataFrame({"silence": [45.0, 45.0], "rating": [3.0, np.nan], "spend": [100.0, 100.0]})
    rated, unrated = fitted[name].logit(customers)
    assert unrated > rated


@both_members
def test_contributions_sum_to_the_log_odds_nulls_included(
    fitted: dict[str, Member], unseen: pd.DataFrame, name: str
) -> None:
    contributions = fitted[name].contributions(unseen)
    assert contributions.shape == (100, 4)
    np.testing.assert_allclose(contributions.sum(axis=1), fitted[name].logit(unseen), rtol=0, atol=1e-9)


@both_members
def test_every_customer_has_the_same_base_value(fitted: dict[str, Member], unseen: pd.DataFrame, name: str) -> None:
    base = fitted[name].contributions(unseen)[:, -1]
    np.testing.assert_allclose(base, base[0], rtol=0, atol=1e-12)


@both_members
def test_contributions_point_to_what_drives_churn(fitted: dict[str, Member], unseen: pd.DataFrame, name: str) -> None:
    silence, rating, spend = np.abs(fitted[name].contributions(unseen.iloc[:-3])[:, :-1]).mean(axis=0)
    assert silence > rating > spend


def test_a_missing_value_counts_towards_its_own_feature(fitted: dict[str, Member]) -> None:
    customers = pd.DataFrame({"silence": [45.0, 45.0], "rating": [3.0, np.nan], "spend": [100.0, 100.0]})
    rated, unrated = fitted["logistic"].contributions(customers)
    assert unrated[1] > rated[1]
    np.testing.assert_array_equal(unrated[[0, 2, 3]], rated[[0, 2, 3]])


def test_contributions_of_logistic_regression_cancel_over_the_training_rows() -> None:
    X, y = make_data()
    member = LogisticMember().fit(X, y)
    np.testing.assert_allclose(member.contributions(X)[:, :-1].mean(axis=0), 0, atol=1e-12)


@both_members
def test_a_column_never_known_in_training_counts_for_nothing(name: str) -> None:
    X, y = make_data(300)
    member = MEMBERS[name]().fit(X.assign(rating=np.nan), y)
    contributions = member.contributions(X)
    np.testing.assert_array_equal(contributions[:, 1], 0)
    np.testing.assert_allclose(contributions.sum(axis=1), member.logit(X), rtol=0, atol=1e-9)


@both_members
def test_the_same_data_give_the_same_model(fitted: dict[str, Member], unseen: pd.DataFrame, name: str) -> None:
    again = MEMBERS[name]().fit(*make_data())
    np.testing.assert_array_equal(again.logit(unseen), fitted[name].logit(unseen))
    np.testing.assert_array_equal(again.contributions(unseen), fitted[name].contributions(unseen))


@both_members
def test_a_saved_member_answers_bit_for_bit_the_same(
    fitted: dict[str, Member], unseen: pd.DataFrame, name: str, tmp_path: Path
) -> None:
    fitted[name].save(tmp_path)
    loaded = MEMBERS[name].load(tmp_path)
    np.testing.assert_array_equal(loaded.logit(unseen), fitted[name].logit(unseen))
    np.testing.assert_array_equal(loaded.contributions(unseen), fitted[name].contributions(unseen))


@both_members
def test_a_saved_member_can_be_moved(
    fitted: dict[str, Member], unseen: pd.DataFrame, name: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    fitted[name].save(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    loaded = MEMBERS[name].load(tmp_path / "there")
    np.testing.assert_array_equal(loaded.logit(unseen), fitted[name].logit(unseen))


@both_members
def test_no_value_is_too_large(fitted: dict[str, Member], name: str) -> None:
    customers = pd.DataFrame({"silence": [1e12, 1e300], "rating": [3.0, 3.0], "spend": [100.0, 100.0]})
    logits = fitted[name].logit(customers)
    assert np.isfinite(logits).all()
    assert logits[0] == logits[1]
