import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import FEATURES, make_fixed_model, make_model, make_rows
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.feature_store import client as feature_store
from inference.model.churn_model import ChurnModel
from inference.model.level import anchored_shift, level_history
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.scoring import batch as scoring
from inference.scoring.batch import score_newest_snapshot
from inference.scoring.score import mean_logit, score_columns

#: Churn rates 0.25 and 0.75; at 2024-04-22 the window of the second has not closed.
LABELS = pd.DataFrame(
    {
        "customer_id": list("abcd") * 2,
        "as_of_date": pd.to_datetime(["2024-03-01"] * 4 + ["2024-04-01"] * 4),
        "churned": [0, 0, 0, 1, 1, 1, 1, 0],
    }
)
COLUMNS = [
    "customer_id",
    "as_of_date",
    "model_version",
    "horizon_days",
    "churn_probability",
    "expected_spend",
    "level_shift",
    "transformer_probability",
    "boosting_probability",
    "logistic_probability",
    "reason_1",
    "reason_2",
    "reason_3",
    "features_hash",
    "manifest_hash",
    "feature_snapshot_at",
    "scored_at",
]


def score(current: RegisteredModel, rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Scores at the level that labels set."""
    logit = mean_logit(current.model.member_logits(*current.model.inputs(rows)))
    history = level_history(labels, current.model.horizon_days)
    shift = anchored_shift(current.model.anchor, rows.as_of_date.iloc[0], history, logit, rows.no_order_probability)
    return pd.DataFrame(score_columns(current, rows, shift), index=rows.index)


@pytest.fixture(scope="module")
def trained() -> ChurnModel:
    return make_model(make_rows(n_customers=200, n_snapshots=3), anchor="latest_rate")


@pytest.fixture(scope="module")
def customers() -> pd.DataFrame:
    """A snapshot of 80 customers, newer than all training."""
    rows = make_rows(n_customers=80, n_snapshots=1, seed=5, first="2024-04-22")
    return rows[["customer_id", "as_of_date", *FEATURES]]


@pytest.fixture(scope="module")
def scores(trained: ChurnModel, customers: pd.DataFrame) -> pd.DataFrame:
    return score(RegisteredModel("7", trained), customers, LABELS)


def make_customers(*logits: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(len(logits))],
            "as_of_date": pd.Timestamp("2024-04-22"),
            "signal": logits,
            "no_order_probability": 0.4,
        }
    )


def test_every_customer_gets_one_row_with_all_columns(scores: pd.DataFrame, customers: pd.DataFrame) -> None:
    assert sorted(scores.columns) == sorted(COLUMNS)
    assert list(scores.customer_id) == list(customers.customer_id)
    assert set(scores.model_version) == {"7"}
    assert set(scores.horizon_days) == {30}


def test_one_shift_moves_everybody() -> None:
    scored = score(RegisteredModel("1", make_fixed_model("latest_rate")), make_customers(-3.0, 0.0, 1.0), LABELS)
    assert scored.level_shift.nunique() == 1
    np.testing.assert_allclose(scored.churn_probability, expit(np.array([-3, 0, 1]) + scored.level_shift))


def test_probabilities_of_members_are_before_the_level_shift() -> None:
    scored = score(RegisteredModel("1", make_fixed_model("latest_rate")), make_customers(-3.0, 0.0), LABELS)
    np.testing.assert_allclose(scored.logistic_probability, expit([-3, 0]))
    assert scored.boosting_probability.isna().all()
    assert scored.transformer_probability.isna().all()


def test_longer_silence_means_higher_risk(scores: pd.DataFrame, customers: pd.DataFrame) -> None:
    silence = customers.set_index("customer_id").days_since_last_order
    risk = scores.set_index("customer_id").churn_probability
    assert risk[silence > 80].mean() > risk[silence < 10].mean() + 0.3


def test_reasons_hold_the_customers_own_numbers() -> None:
    rows = make_rows(n_customers=200, n_snapshots=3)
    model = make_model(rows)
    silent = rows[rows.days_since_last_order > 85].head(1)
    scored = score(RegisteredModel("1", model), silent, LABELS).iloc[0]
    days = int(silent.days_since_last_order.iloc[0])
    assert any(
        reason.startswith(f"last order {days} days ago")
        for reason in (scored.reason_1, scored.reason_2, scored.reason_3)
    )


def test_missing_reasons_are_null() -> None:
    scored = score(RegisteredModel("1", make_fixed_model()), make_customers(2.5, 0.0), LABELS)
    assert scored.reason_1.tolist() == ["signal: 2.5", None]
    assert scored.reason_2.tolist() == [None, None]


def test_a_customer_who_comes_back_is_worth_what_such_customers_spend() -> None:
    scored = score(RegisteredModel("1", make_fixed_model()), make_customers(2.0, -2.0), LABELS)
    assert scored.expected_spend.tolist() == [10.0, 10.0]


def test_rows_may_come_in_any_order_and_with_any_index(
    trained: ChurnModel, customers: pd.DataFrame, scores: pd.DataFrame
) -> None:
    shuffled = score(RegisteredModel("7", trained), customers.sample(frac=1, random_state=0), LABELS)
    pd.testing.assert_frame_equal(
        shuffled.sort_values("customer_id", ignore_index=True).drop(columns="scored_at"),
        scores.sort_values("customer_id", ignore_index=True).drop(columns="scored_at"),
    )


def test_lineage_holds_the_time_of_the_features_and_of_the_score(scores: pd.DataFrame) -> None:
    assert set(scores.feature_snapshot_at) == {pd.Timestamp("2024-04-22")}
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert (now - scores.scored_at).max() < datetime.timedelta(minutes=10)
    assert (now - scores.scored_at).min() >= datetime.timedelta(0)


class TestNewestSnapshot:
    snapshots = pd.DataFrame(
        {
            "customer_id": ["b", "a", "a"],
            "as_of_date": pd.to_datetime(["2024-04-22", "2024-04-22", "2024-03-25"]),
            "is_newest": [True, True, False],
            "first_order_date": pd.to_datetime(["2024-03-01", "2024-01-02", "2024-01-02"]),
            "last_order_date": pd.to_datetime(["2024-04-21", "2024-04-01", "2024-03-01"]),
        }
    )

    def test_only_the_newest_snapshot_is_scored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        current = RegisteredModel("3", make_fixed_model())
        monkeypatch.setattr(registry, "champion", lambda as_of_date: current)
        monkeypatch.setattr(
            feature_store,
            "snapshot_features",
            lambda rows, *services: rows.assign(signal=1.0, no_order_probability=0.4),
        )
        scored = score_newest_snapshot(self.snapshots, LABELS).read_pandas()
        assert scored.customer_id.tolist() == ["a", "b"]
        assert set(scored.as_of_date) == {pd.Timestamp("2024-04-22")}
        assert set(scored.model_version) == {"3"}

    def test_parts_are_scored_as_all_customers_together_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "champion", lambda as_of_date: RegisteredModel("3", make_fixed_model("forecast")))
        logits, forecast = {"a": 2.0, "b": -1.0}, {"a": 0.9, "b": 0.2}
        monkeypatch.setattr(
            feature_store,
            "snapshot_features",
            lambda rows, *services: rows.assign(
                signal=rows.customer_id.map(logits), no_order_probability=rows.customer_id.map(forecast)
            ),
        )
        together = score_newest_snapshot(self.snapshots, LABELS)
        monkeypatch.setattr(scoring, "CUSTOMERS_AT_ONCE", 1)
        apart = score_newest_snapshot(self.snapshots, LABELS)
        batches = list(apart)
        assert [batch.num_rows for batch in batches] == [1, 1]
        in_parts = pa.Table.from_batches(batches).to_pandas()
        expected = together.read_pandas()
        assert expected.level_shift.nunique() == 1
        assert expected.level_shift[0] != 0
        assert in_parts.scored_at.nunique() == 1  # readers take the latest time of a date
        pd.testing.assert_frame_equal(in_parts.drop(columns="scored_at"), expected.drop(columns="scored_at"))

    def test_labels_get_the_days_since_orders_from_the_snapshots(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        monkeypatch.setattr(registry, "champion", lambda as_of_date: RegisteredModel("3", make_fixed_model()))
        monkeypatch.setattr(
            feature_store,
            "snapshot_features",
            lambda rows, *services: rows.assign(signal=1.0, no_order_probability=0.4),
        )
        monkeypatch.setattr(scoring, "level_history", lambda labels, days: seen.append(labels))
        monkeypatch.setattr(scoring, "anchored_shift", lambda *_: 0.0)
        labels = self.snapshots[["customer_id", "as_of_date"]].assign(churned=None)
        score_newest_snapshot(self.snapshots, labels)
        assert seen[0].days_since_first_order.tolist() == [52, 111, 83]
        assert seen[0].days_since_last_order.tolist() == [1, 21, 24]

    def test_labels_set_the_level(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # the newest rate that is known at 2024-04-22: the window of the second snapshot has not closed
        monkeypatch.setattr(registry, "champion", lambda _: RegisteredModel("3", make_fixed_model("latest_rate")))
        monkeypatch.setattr(
            feature_store,
            "snapshot_features",
            lambda rows, *services: rows.assign(signal=np.arange(len(rows)), no_order_probability=0.4),
        )
        open_window = self.snapshots[self.snapshots.is_newest][["customer_id", "as_of_date"]].assign(churned=None)
        scored = score_newest_snapshot(self.snapshots, pd.concat([LABELS, open_window])).read_pandas()
        assert scored.churn_probability.nunique() == 2
        assert scored.churn_probability.mean() == pytest.approx(0.25)

    def test_without_a_champion_nobody_is_scored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "champion", lambda as_of_date: None)
        with pytest.raises(ChurnRadarError, match="no champion in the model registry"):
            score_newest_snapshot(self.snapshots, LABELS)
