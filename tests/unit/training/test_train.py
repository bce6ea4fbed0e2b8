import json
from dataclasses import asdict
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from builders import FEATURES, make_rows
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from inference.errors import ChurnRadarError
from inference.model.churn_model import ChurnModel
from inference.model.level import anchored_probabilities, level_history
from inference.model.training_data import TrainingData
from inference.training import validation as validation_module
from inference.training.rows import training_data
from inference.training.settings import TrainingSettings
from inference.training.train import choose_level, choose_members, train
from inference.training.validation import (
    backtest_level,
    rolling_validation,
)

HORIZON = 30
START = pd.Timestamp("2024-01-01")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Snapshots 28 days apart: a label window of 30 days closes two days after the next begins."""
    return make_rows(n_customers=120, n_snapshots=6)


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame) -> ChurnModel:
    return train(rows, HORIZON)


def validate(rows: pd.DataFrame, **settings: int) -> pd.DataFrame:
    return rolling_validation(training_data(rows, FEATURES), HORIZON, TrainingSettings(**settings))


def make_validation(**logits: list) -> pd.DataFrame:
    """Two snapshots of four customers; the last two of each churned."""
    return pd.DataFrame(
        {
            "customer_id": list("abcd") * 2,
            "as_of_date": np.repeat(pd.to_datetime(["2024-03-01", "2024-04-01"]), 4),
            "churned": [0, 0, 1, 1] * 2,
            "no_order_probability": [0.1, 0.3, 0.5, 0.7, 0.2, 0.4, 0.6, 0.8],
            **logits,
        }
    )


class TestRollingValidation:
    class Spy:
        """Remembers the newest window that it learned from and the snapshot that it was asked about."""

        name = "logistic"

        def __init__(self, seen: list) -> None:
            self.seen = seen

        def fit(self, X: pd.DataFrame, y: np.ndarray) -> "TestRollingValidation.Spy":
            self.newest_close = X.closes.max()
            self.oldest_snapshot = X.begins.min()
            return self

        def logit(self, X: pd.DataFrame) -> np.ndarray:
            assert X.begins.nunique() == 1
            self.seen.append((self.oldest_snapshot, self.newest_close, X.begins.iloc[0]))
            return np.zeros(len(X))

    @given(
        days=st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True),
        horizon=st.integers(1, 120),
        most=st.integers(1, 6),
    )
    def test_never_learns_from_a_window_that_closes_after_the_snapshot(
        self, days: list[int], horizon: int, most: int
    ) -> None:
        rows = pd.DataFrame({"day": np.repeat(days, 4), "customer_id": list("abcd") * len(days)})
        rows["as_of_date"] = START + pd.to_timedelta(rows.day, unit="D")
        rows["churned"] = [0, 1, 0, 1] * len(days)
        rows["no_order_probability"] = 0.5
        X = pd.DataFrame({"begins": rows.day, "closes": rows.day + horizon}, dtype=float)
        seen: list = []
        with mock.patch.object(validation_module, "MEMBERS", {"logistic": lambda: self.Spy(seen)}):
            settings = TrainingSettings(min_customers=4, validation_snapshots=most)
            validation = rolling_validation(TrainingData(rows, X, rows.churned.to_numpy()), horizon, settings)
        for _, newest_close, snapshot in seen:
            assert newest_close <= snapshot
        possible = sorted(day for day in days if min(days) + horizon <= day)
        assert [snapshot for _, _, snapshot in seen] == possible[-most:]
        assert all(oldest == min(days) for oldest, _, _ in seen)
        assert len(validation) == 4 * len(possible[-most:])

    def test_what_became_known_later_changes_no_prediction(self, rows: pd.DataFrame) -> None:
        snapshot = pd.Timestamp("2024-04-22")  # the fifth; the windows of the first three have closed
        later = rows.as_of_date + pd.Timedelta(days=HORIZON) > snapshot
        poisoned = rows.assign(churned=np.where(later, 1 - rows.churned, rows.churned))
        honest, all_knowing = (v[v.as_of_date == snapshot].logistic for v in (validate(rows), validate(poisoned)))
        np.testing.assert_array_equal(honest, all_knowing)

    def test_what_was_known_before_does(self, rows: pd.DataFrame) -> None:
        poisoned = rows.assign(churned=np.where(rows.as_of_date == START, 1 - rows.churned, rows.churned))
        snapshot = pd.Timestamp("2024-04-22")
        honest, fooled = (v[v.as_of_date == snapshot].logistic for v in (validate(rows), validate(poisoned)))
        assert np.abs(honest.to_numpy() - fooled.to_numpy()).max() > 0.1

    def test_first_snapshots_have_nothing_to_learn_from(self, rows: pd.DataFrame) -> None:
        assert sorted(validate(rows).as_of_date.dt.strftime("%m-%d").unique()) == [
            "02-26",
            "03-25",
            "04-22",
            "05-20",
        ]

    def test_the_newest_snapshots_are_validated(self, rows: pd.DataFrame) -> None:
        validation = validate(rows, validation_snapshots=2)
        assert sorted(validation.as_of_date.dt.strftime("%m-%d").unique()) == ["04-22", "05-20"]

    def test_a_snapshot_of_one_outcome_is_skipped(self, rows: pd.DataFrame) -> None:
        lucky = rows.assign(churned=np.where(rows.as_of_date == "2024-04-22", 0, rows.churned))
        assert "2024-04-22" not in set(validate(lucky).as_of_date.astype(str))

    def test_one_snapshot_cannot_be_validated(self, rows: pd.DataFrame) -> None:
        assert validate(rows[rows.as_of_date == START]).empty


class TestChooseMembers:
    good = (-2.0, -1.0, 1.0, 2.0) * 2
    useless = (1.0, -1.0, -1.0, 1.0) * 2

    def test_a_useless_member_is_dropped(self) -> None:
        kept, losses = choose_members(make_validation(logistic=self.good, boosting=self.useless))
        assert kept == ["logistic"]
        assert losses["logistic"] < losses["logistic+boosting"] < losses["boosting"]

    def test_so_is_the_other_one(self) -> None:
        assert choose_members(make_validation(logistic=self.useless, boosting=self.good))[0] == ["boosting"]

    def test_members_that_know_different_things_are_kept(self) -> None:
        one = [-2.0, 0.5, -0.5, 2.0] * 2
        other = [0.5, -2.0, 2.0, -0.5] * 2
        kept, losses = choose_members(make_validation(logistic=one, boosting=other))
        assert kept == ["logistic", "boosting"]
        assert losses["logistic+boosting"] < min(losses["logistic"], losses["boosting"])

    def test_losses_are_taken_at_the_true_level_of_each_snapshot(self) -> None:
        # half of each snapshot churned, so log-odds symmetric about zero stand at the true level
        shifted = np.array(self.good) + np.repeat([3.0, -5.0], 4)
        _, losses = choose_members(make_validation(logistic=list(shifted), boosting=self.good))
        by_hand = -np.log(expit([2.0, 1.0, 1.0, 2.0])).mean()
        assert losses["boosting"] == pytest.approx(by_hand)
        assert losses["logistic"] == pytest.approx(by_hand)

    def test_a_member_that_may_be_worse_by_chance_is_kept(self) -> None:
        wrong_once = [1.0, *self.good[1:]]
        kept, losses = choose_members(make_validation(logistic=wrong_once, boosting=self.good))
        assert kept == ["logistic", "boosting"]
        assert losses["boosting"] < losses["logistic+boosting"]

    def test_nothing_validated_all_are_averaged(self) -> None:
        assert choose_members(pd.DataFrame()) == (["logistic", "boosting"], {})


class TestLevel:
    labels = pd.DataFrame(
        {
            "as_of_date": ["2024-01-01"] * 4 + ["2024-02-01"] * 2 + ["2024-03-01"] * 2,
            "churned": [1, 0, 0, 0, 1, None, None, None],
        }
    )

    def test_history_counts_known_outcomes_alone(self) -> None:
        history = level_history(self.labels, 31)
        assert history.horizon_days == 31
        assert {str(date.date()): rate for date, rate in history.rates.items()} == {
            "2024-01-01": 0.25,
            "2024-02-01": 1.0,
        }

    def test_history_tells_who_of_the_older_customers_was_silent(self) -> None:
        # three ordered before the horizon of 31 days began; of them one ordered in it, on its first day
        labels = self.labels.head(4).assign(
            days_since_first_order=[90, 90, 32, 31], days_since_last_order=[90, 32, 31, 31]
        )
        assert level_history(labels, 31).silent_shares.tolist() == [pytest.approx(2 / 3)]

    def test_last_years_rate_is_trusted_before_it_could_be_backtested(self) -> None:
        validation = make_validation(logistic=[3.0] * 8)  # far above the churn rate
        assert choose_level(validation, ["logistic"], self.labels, 31, pd.Timestamp("2024-12-01"))[1] == "forecast"
        # 365 days after 2024-01-01
        backtest, anchor, error = choose_level(validation, ["logistic"], self.labels, 31, pd.Timestamp("2024-12-31"))
        assert backtest.last_year.isna().all()
        assert (anchor, error) == ("last_year", None)

    def test_backtest_asks_every_anchor_at_every_snapshot(self) -> None:
        validation = make_validation(logistic=[0.0] * 4 + list(logit([0.1, 0.2, 0.3, 0.4])))
        backtest = backtest_level(validation, ["logistic"], self.labels, 31)
        assert [str(date.date()) for date in backtest.index] == ["2024-03-01", "2024-04-01"]
        np.testing.assert_allclose(backtest.churn_rate, [0.5, 0.5])
        np.testing.assert_allclose(backtest.model, [0.5, 0.25])
        np.testing.assert_allclose(backtest.forecast, [0.4, 0.5])
        # the window of 2024-02-01 closes 31 days later, on 2024-03-03
        np.testing.assert_allclose(backtest.latest_rate, [0.25, 1.0])
        assert backtest.last_year.isna().all()

    def test_validation_probabilities_stand_at_the_anchored_level(self) -> None:
        validation = make_validation(logistic=list(TestChooseMembers.good))
        validation["no_order_probability"] = [0.3] * 4 + [np.nan] * 4
        history = level_history(self.labels, 31)
        anchored = anchored_probabilities("forecast", history, validation, validation.logistic.to_numpy())
        first, second = anchored.reshape(2, 4)
        assert first.mean() == pytest.approx(0.3)
        np.testing.assert_allclose(second, expit([-2, -1, 1, 2]))  # nothing to say: the model's own level
        assert list(np.argsort(first)) == [0, 1, 2, 3]

    def test_a_forecast_that_knows_the_season_becomes_the_anchor(self) -> None:
        seasonal = make_rows(n_customers=150, n_snapshots=6, levels=[-2, 2, -2, 2, -2, 2])
        model = train(seasonal, HORIZON)
        assert model.anchor == "forecast"
        assert model.summary.level_error < 0.06


def known_of(model: ChurnModel) -> str:
    """Details but for the time that it took."""
    return json.dumps({name: value for name, value in asdict(model.summary).items() if name != "seconds"})


class TestTrain:
    def test_finds_the_signal(self, model: ChurnModel) -> None:
        # silence alone, as the rows were made, ranks churners above 19 in 20 stayers
        assert model.summary.validation["auroc"] > 0.85

    def test_reads_every_known_feature_and_no_label(self, model: ChurnModel) -> None:
        assert sorted(model.features) == sorted(FEATURES)

    def test_a_column_that_is_null_throughout_is_left_out(self, model: ChurnModel) -> None:
        assert "never_recorded" not in model.features

    def test_says_what_it_learned_from(self, model: ChurnModel) -> None:
        assert model.horizon_days == 30
        assert model.summary.training_rows == 720
        assert model.summary.training_customers == 120
        assert (model.summary.first_snapshot, model.summary.last_snapshot) == (
            "2024-01-01",
            "2024-05-20",
        )

    def test_tells_the_log_loss_of_every_later_snapshot(self, model: ChurnModel) -> None:
        losses = model.summary.validation_log_losses
        assert list(losses) == ["2024-02-26", "2024-03-25", "2024-04-22", "2024-05-20"]
        assert all(0 < loss < np.log(2) for loss in losses.values())

    def test_tells_what_each_anchor_expected_of_every_later_snapshot(self, model: ChurnModel) -> None:
        backtest = model.summary.level_backtest
        assert [record["as_of_date"] for record in backtest] == list(model.summary.validation_log_losses)
        assert set(backtest[0]) == {
            "as_of_date",
            "churn_rate",
            "model",
            "latest_rate",
            "forecast",
            "last_year",
        }

    def test_keeps_what_its_newest_customers_looked_like(self, model: ChurnModel, rows: pd.DataFrame) -> None:
        reference = model.reference.groupby("feature").agg(
            {"as_of_date": "max", "customers": "max", "share": "sum", "is_read": "max"}
        )
        assert set(reference.index) == {*FEATURES, "never_recorded", "churn_probability"}
        assert set(reference.as_of_date.astype(str)) == {"2024-05-20"}
        assert set(reference.customers) == {120}
        np.testing.assert_allclose(reference.share, 1)
        assert set(reference.index[reference.is_read]) == set(FEATURES)

    def test_expects_money_of_those_who_order(self, model: ChurnModel, rows: pd.DataFrame) -> None:
        # amounts of customers who ordered are gamma distributed with mean 40
        assert model.spend.predict(model.matrix(rows)).mean() == pytest.approx(40, rel=0.2)

    def test_rows_without_outcome_are_ignored(self, model: ChurnModel, rows: pd.DataFrame) -> None:
        unknown = make_rows(n_customers=50, n_snapshots=1, first="2024-06-17")
        unknown = unknown.assign(churned=np.nan, never_recorded=1.0)
        again = train(pd.concat([rows, unknown]), HORIZON)
        assert known_of(again) == known_of(model)
        assert again.features == model.features
        np.testing.assert_array_equal(again.logit(again.matrix(rows)), model.logit(model.matrix(rows)))

    def test_the_order_of_rows_does_not_matter(self, model: ChurnModel, rows: pd.DataFrame) -> None:
        again = train(rows.sample(frac=1, random_state=0), HORIZON)
        np.testing.assert_array_equal(again.logit(again.matrix(rows)), model.logit(model.matrix(rows)))

    def test_with_one_snapshot_there_is_a_model_but_nothing_is_promised_of_it(self, rows: pd.DataFrame) -> None:
        model = train(rows[rows.as_of_date == START], HORIZON)
        assert [member.name for member in model.members] == ["logistic", "boosting"]
        assert (model.anchor, model.threshold) == ("latest_rate", 0.5)
        assert model.summary.level_error is None
        assert model.summary.validation == {}


class TestSmallPopulations:
    def test_too_few_customers_are_refused_in_one_line(self) -> None:
        with pytest.raises(ChurnRadarError) as caught:
            train(make_rows(n_customers=49, n_snapshots=4), HORIZON)
        message = str(caught.value)
        assert message.startswith("churn_labels: 49 customers with a known outcome; expected at least 50.")
        assert "\n" not in message

    def test_customers_without_outcome_do_not_count(self) -> None:
        rows = make_rows(n_customers=60, n_snapshots=2)
        rows.loc[rows.customer_id < "c0020", "churned"] = None
        with pytest.raises(ChurnRadarError, match="churn_labels: 40 customers with a known outcome"):
            train(rows, HORIZON)

    def test_nobody_with_an_outcome_is_refused(self) -> None:
        with pytest.raises(ChurnRadarError, match="churn_labels: 0 customers with a known outcome"):
            train(make_rows().assign(churned=None), HORIZON)

    @pytest.mark.parametrize(("outcome", "words"), [(1.0, "churned"), (0.0, "ordered again")])
    def test_one_outcome_is_refused_in_one_line(self, outcome: float, words: str) -> None:
        with pytest.raises(ChurnRadarError) as caught:
            train(make_rows(n_customers=60, n_snapshots=2).assign(churned=outcome), HORIZON)
        message = str(caught.value)
        assert message.startswith(f"churn_labels.churned: all 120 labelled rows {words}; expected some of both.")
        assert "\n" not in message

    def test_fifty_customers_are_enough(self) -> None:
        assert train(make_rows(n_customers=50, n_snapshots=4), HORIZON).members
