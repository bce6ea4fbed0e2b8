import numpy as np
import pandas as pd
import pytest
from builders import FEATURES, make_rows
from scipy.special import expit, logit
from small_network import make_tiny_encoder

from inference.evaluation.metrics import auroc_interval
from inference.model.churn_model import feature_matrix
from inference.reporting.baselines import BASELINES, Network, NumbersAsSentences, PurchaseForecast, Recency


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
        recency = Recency().fit(self.X, self.X, self.y)
        # a tenth of those silent for 10 days, nine tenths of those silent for 80; regularisation pulls to even odds
        early, late = expit(recency.logit(*[silent(10, 80)] * 2))
        assert 0.1 <= early < 0.25
        assert 0.75 < late <= 0.9
        assert early + late == pytest.approx(1, abs=1e-3)

    def test_the_longer_silent_the_riskier(self):
        recency = Recency().fit(self.X, self.X, self.y)
        logits = recency.logit(*[silent(0, 1, 10, 30, 90, 365)] * 2)
        assert (np.diff(logits) > 0).all()

    def test_it_uses_no_other_feature(self):
        noise = self.X.assign(other=np.random.default_rng(0).normal(size=20))
        expected = Recency().fit(self.X, self.X, self.y).logit(self.X, self.X)
        np.testing.assert_array_equal(Recency().fit(noise, noise, self.y).logit(noise, noise), expected)


class TestPurchaseForecast:
    def test_it_returns_the_forecast_and_needs_no_labels(self):
        rows = pd.DataFrame({"no_order_probability": [0.5, 0.9, 0.1]})
        forecast = PurchaseForecast().fit(rows, rows, np.array([1, 0, 1]))
        np.testing.assert_allclose(forecast.logit(rows, rows), [0, np.log(9), -np.log(9)])

    def test_certainty_stays_finite(self):
        rows = pd.DataFrame({"no_order_probability": [0.0, 1.0]})
        np.testing.assert_allclose(PurchaseForecast().logit(rows, rows), [logit(1e-6), -logit(1e-6)])


class TestNetwork:
    def test_it_learns_from_features_with_gaps(self):
        rows = make_rows(n_customers=300, n_snapshots=3)
        X, y = feature_matrix(rows, FEATURES), rows.churned.to_numpy(dtype=int)
        assert X.isna().any(axis=None)
        training, test = rows.customer_id < "c0200", rows.customer_id >= "c0200"
        logits = Network().fit(rows[training], X[training], y[training]).logit(rows[test], X[test])
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
        sequences = NumbersAsSentences()._sentences(self.X)
        assert [sequences.words[i] for i in sequences.texts[:, 0]] == [
            "days since last order 3, orders total 12, gap mean days 7",
            "days since last order 80, orders total 1",
        ]
        assert (sequences.texts[:, 1:] == -1).all()
        assert (sequences.event_types == 0).all()

    def test_it_predicts_from_the_sentence_alone(self):
        X = pd.concat([self.X] * 40, ignore_index=True)
        y = np.tile([0, 1], 40)
        model = NumbersAsSentences(max_rows=64).fit(X, X, y)
        logits = model.logit(X, X)
        assert np.isfinite(logits).all()
        assert model.model_.fine_tuned
        # equal sentences get equal answers, whatever else is known of a customer
        np.testing.assert_allclose(logits.reshape(40, 2), np.tile(logits[:2], (40, 1)), atol=1e-5)
        other = X.assign(not_in_the_sentence=np.arange(80.0))
        np.testing.assert_allclose(model.logit(other, other), logits, atol=1e-5)

    def test_a_customer_without_known_numbers_has_an_empty_sentence(self):
        unknown = self.X.assign(**dict.fromkeys(self.X, np.nan))
        assert NumbersAsSentences()._sentences(unknown).words == [""]
        X = pd.concat([self.X, unknown] * 10, ignore_index=True)
        model = NumbersAsSentences(max_rows=16).fit(X, X, np.tile([0, 1], 20))
        assert np.isfinite(model.logit(X, X)).all()


def test_every_baseline_has_a_name_of_its_own_and_says_what_it_is():
    assert len({baseline.name for baseline in BASELINES}) == len(BASELINES)
    assert all(baseline.description for baseline in BASELINES)
