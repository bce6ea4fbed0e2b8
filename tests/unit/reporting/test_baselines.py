import numpy as np
import pandas as pd
import pytest
from builders import FEATURES, make_rows
from scipy.special import expit, logit
from small_network import make_tiny_encoder

from inference.evaluation.metrics import auroc_interval
from inference.model.churn_model import feature_matrix
from inference.reporting.baselines import (
    BASELINES,
    as_sentences,
    network,
    numbers_as_sentences,
    purchase_forecast,
    recency,
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny"), "Bert")


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, tiny: str) -> None:
    monkeypatch.setenv("CHURN_DEVICE", "cpu")
    monkeypatch.setenv("CHURN_ENCODER", tiny)


def silent(*days: float) -> pd.DataFrame:
    return pd.DataFrame({"days_since_last_order": np.array(days, dtype=float)})


class TestRecency:
    X = silent(*[10] * 10, *[80] * 10)
    y = np.array([1, *[0] * 9, 0, *[1] * 9])

    def test_it_fits_churn_by_days_since_the_last_order(self):
        # a tenth of those silent for 10 days, nine tenths of those silent for 80; regularisation pulls to even odds
        early, late = expit(recency(self.X, self.y, self.X, silent(10, 80)))
        assert 0.1 <= early < 0.25
        assert 0.75 < late <= 0.9
        assert early + late == pytest.approx(1, abs=1e-3)

    def test_the_longer_silent_the_riskier(self):
        assert (np.diff(recency(self.X, self.y, self.X, silent(0, 1, 10, 30, 90, 365))) > 0).all()

    def test_it_uses_no_other_feature(self):
        noise = self.X.assign(other=np.random.default_rng(0).normal(size=20))
        expected = recency(self.X, self.y, self.X, self.X)
        np.testing.assert_array_equal(recency(noise, self.y, noise, noise), expected)


class TestPurchaseForecast:
    def test_it_returns_the_forecast_and_certainty_stays_finite(self):
        rows = pd.DataFrame({"no_order_probability": [0.5, 0.9, 0.1, 0.0, 1.0]})
        expected = [0, np.log(9), -np.log(9), logit(1e-6), -logit(1e-6)]
        np.testing.assert_allclose(purchase_forecast(rows, np.ones(5), rows, rows), expected)


class TestNetwork:
    def test_it_learns_from_features_with_gaps(self):
        rows = make_rows(n_customers=300, n_snapshots=3)
        X, y = feature_matrix(rows, FEATURES), rows.churned.to_numpy(dtype=int)
        assert X.isna().any(axis=None)
        training, test = rows.customer_id < "c0200", rows.customer_id >= "c0200"
        logits = network(X[training], y[training], rows[test], X[test])
        assert np.isfinite(logits).all()
        assert auroc_interval(y[test], logits)[0] > 0.8


class TestNumbersAsSentences:
    X = pd.DataFrame(
        {
            "days_since_last_order": [3.4, 80.0],
            "orders_total": [12.0, 1.0],
            "gap_mean_days": [7.0, np.nan],
            "not_in_the_sentence": [1.0, 2.0],
        }
    )

    def test_numbers_are_written_out_and_unknown_ones_left_out(self):
        sequences = as_sentences(self.X)
        assert [sequences.words[i] for i in sequences.texts[:, 0]] == [
            "days since last order 3, orders total 12, gap mean days 7",
            "days since last order 80, orders total 1",
        ]
        assert (sequences.texts[:, 1:] == -1).all()
        assert (sequences.event_types == 0).all()

    def test_it_predicts_from_the_sentence_alone(self):
        X = pd.concat([self.X] * 40, ignore_index=True)
        other = X.assign(not_in_the_sentence=np.arange(80.0))
        logits = numbers_as_sentences(X, np.tile([0, 1], 40), X, pd.concat([X, other]), max_rows=64)
        assert np.isfinite(logits).all()
        # equal sentences get equal answers, whatever else is known of a customer
        np.testing.assert_allclose(logits.reshape(80, 2), np.tile(logits[:2], (80, 1)), atol=1e-5)

    def test_a_customer_without_known_numbers_has_an_empty_sentence(self):
        unknown = self.X.assign(**dict.fromkeys(self.X, np.nan))
        assert as_sentences(unknown).words == [""]
        X = pd.concat([self.X, unknown] * 10, ignore_index=True)
        assert np.isfinite(numbers_as_sentences(X, np.tile([0, 1], 20), X, X, max_rows=16)).all()


def test_every_baseline_has_a_name_of_its_own_and_says_what_it_is():
    assert len({baseline.name for baseline in BASELINES}) == len(BASELINES)
    assert all(baseline.description for baseline in BASELINES)
