from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from builders import make_fixed_model, make_model, make_rows

from inference.errors import ChurnRadarError
from inference.feature_store import client
from inference.model.churn_model import ChurnModel
from inference.model.words import WordsModel
from inference.registry import registry
from inference.registry.registry import RegisteredModel
from inference.training.champion import Monitoring, Retraining, compare, ensure_champion, why_due, why_none_fits
from inference.training.settings import TrainingSettings
from inference.training.train import train

LN_2 = 0.69315

#: Four customers of whom nothing is known: log-odds of zero, log-loss ln 2.
FOUR = pd.DataFrame(
    {
        "customer_id": list("abcd") * 2,
        "as_of_date": np.repeat(pd.to_datetime(["2024-03-01", "2024-05-01"]), 4),
        "churned": [0, 1, 0, 1] * 2,
        "signal": 0.0,
        "no_order_probability": 0.5,
    }
)


def validated(losses: dict[str, float], rows: pd.DataFrame = FOUR, **summary: object) -> ChurnModel:
    """A model that had these log-losses on later snapshots, every customer alike."""
    model = make_fixed_model(**summary)
    snapshots = [
        rows[rows.as_of_date == pd.Timestamp(date)].assign(right=float(np.exp(-loss))) for date, loss in losses.items()
    ]
    if snapshots:
        table = pd.concat(snapshots, ignore_index=True)
        model.validation = table.assign(probability=table.right.where(table.churned == 1, 1 - table.right))
    return model


def make_champion(last_snapshot: str, losses: dict[str, float], version: str = "3") -> RegisteredModel:
    return RegisteredModel(version, validated(losses, last_snapshot=last_snapshot))


class TestCompareOnLaterRows:
    def test_a_lower_loss_wins(self) -> None:
        promote, reason = compare(make_champion("2024-03-01", {}), validated({"2024-05-01": 0.5}), FOUR)
        assert promote is True
        assert reason == (
            f"log-loss 0.50000, below {LN_2} of champion 3, on 4 predictions of later snapshots "
            "(difference 0.19315, 0.19315 to 0.19315)"
        )

    def test_a_higher_loss_loses(self) -> None:
        promote, reason = compare(make_champion("2024-03-01", {}), validated({"2024-05-01": 0.7}), FOUR)
        assert promote is False
        assert reason.startswith(f"log-loss 0.70000, not clearly below {LN_2} of champion 3, on 4 predictions")

    def test_a_loss_that_is_lower_by_chance_loses(self) -> None:
        challenger = validated({"2024-05-01": 0.5})
        # better for three customers, worse for one: a mean of 0.096, within three standard errors of it
        challenger.validation.loc[0, "probability"] = 1 - np.exp(-0.5 - 4 * 0.0966)
        promote, reason = compare(make_champion("2024-03-01", {}), challenger, FOUR)
        assert promote is False
        assert "not clearly below" in reason

    def test_the_champion_answers_as_it_would_have_at_the_anchored_level(self) -> None:
        # at 2024-05-01 the newest known rate is that of 2024-03-01: 1/4
        rows = FOUR.assign(churned=[0, 0, 0, 1, 0, 1, 0, 1])
        champion = make_champion("2024-03-01", {})
        champion.model.anchor = "latest_rate"
        by_hand = -(np.log(0.25) + np.log(0.75)) / 2
        _, reason = compare(champion, validated({"2024-05-01": 0.5}, rows), rows)
        assert f"below {by_hand:.5f} of champion" in reason

    def test_snapshots_that_the_champion_learned_from_do_not_count(self) -> None:
        losses = {"2024-03-01": 0.01, "2024-05-01": 0.7}
        promote, _ = compare(make_champion("2024-03-01", {}), validated(losses), FOUR)
        assert promote is False

    def test_snapshots_whose_outcomes_the_champion_learned_do_not_count_either(self) -> None:
        # the champion saw who ordered until 2024-05-10, so it may not be asked about 2024-05-01
        champion = make_champion("2024-04-10", {"2024-03-01": 0.6})
        promote, reason = compare(champion, validated({"2024-03-01": 0.5, "2024-05-01": 0.99}), FOUR)
        assert promote is True
        assert "in rolling validation on 4 shared predictions" in reason

    def test_a_real_challenger_beats_a_champion_that_learned_the_opposite(self) -> None:
        rows = make_rows(n_customers=120, n_snapshots=6)
        old = rows[rows.as_of_date <= "2024-01-29"]
        champion = RegisteredModel("1", make_model(old.assign(churned=1 - old.churned)))
        promote, reason = compare(champion, train(rows, 30), rows)
        assert promote is True
        assert "champion 1" in reason

    def test_a_real_challenger_that_learned_noise_loses_to_a_champion_that_knows(self) -> None:
        rows = make_rows(n_customers=120, n_snapshots=6)
        champion = RegisteredModel("1", make_model(rows[rows.as_of_date <= "2024-01-29"]))
        blind = rows.drop(columns=["days_since_last_order", "days_since_first_order", "orders_30d", "orders_trend_30d"])
        challenger = train(blind.assign(no_order_probability=0.5), 30)
        assert compare(champion, challenger, rows)[0] is False


class TestCompareOnSharedSnapshots:
    def test_both_are_judged_by_their_own_rolling_validation(self) -> None:
        champion = make_champion("2024-05-01", {"2024-03-01": 0.4, "2024-05-01": 0.6})
        promote, reason = compare(champion, validated({"2024-03-01": 0.3, "2024-05-01": 0.5}), FOUR)
        assert promote is True
        assert reason.startswith(
            "log-loss 0.40000, below 0.50000 of champion 3, in rolling validation on 8 shared predictions"
        )

    def test_an_equal_loss_changes_nothing(self) -> None:
        same = {"2024-03-01": 0.4}
        promote, reason = compare(make_champion("2024-05-01", same), validated(same), FOUR)
        assert promote is False
        assert "not clearly below" in reason


@pytest.mark.parametrize(
    ("ours", "theirs"), [({}, {}), ({"2024-03-01": 0.1}, {}), ({"2024-03-01": 0.1}, {"2024-05-01": 0.9})]
)
def test_with_nothing_to_compare_the_champion_stays(ours: dict, theirs: dict) -> None:
    promote, reason = compare(make_champion("2024-05-01", theirs), validated(ours), FOUR)
    assert promote is False
    assert reason == "no later rows to compare with champion 3"


class TestWhyDue:
    """Weekly snapshots; the champion learned from those up to 2024-01-01."""

    champion = make_champion("2024-01-01", {})

    @pytest.fixture(autouse=True)
    def _history(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.history = pd.DataFrame({"decision": ["promoted"], "last_snapshot": [pd.Timestamp("2024-01-01")]})
        monkeypatch.setattr(registry, "versions", lambda: self.history)

    def due(self, newest_labelled: str, monitoring: Monitoring | None = None) -> str | None:
        labels = pd.DataFrame({"as_of_date": pd.to_datetime([newest_labelled, "2024-06-01"]), "churned": [1.0, None]})
        return why_due(self.champion, labels, Retraining(), monitoring)

    def test_four_closed_windows_are_enough_and_three_are_not(self) -> None:
        assert self.due("2024-01-29") == "4 label windows have closed since it was trained"
        assert self.due("2024-01-22") is None

    def test_drift_at_its_band_is_enough_once_there_is_something_new_to_learn(self) -> None:
        assert self.due("2024-01-08", Monitoring("3", drift_share=0.1)) == "10% of its features drifted"
        assert self.due("2024-01-08", Monitoring("3", drift_share=0.09)) is None
        assert self.due("2024-01-01", Monitoring("3", drift_share=0.9)) is None

    def test_an_auroc_that_fell_short_of_its_promise_is_enough(self) -> None:
        assert self.due("2024-01-08", Monitoring("3", auroc_drop=0.06)) == (
            "its AUROC was 0.0600 below that of its validation"
        )

    def test_what_was_measured_of_another_version_does_not_count(self) -> None:
        assert self.due("2024-01-08", Monitoring("2", drift_share=0.9, auroc_drop=0.9)) is None

    def test_a_challenger_that_lost_is_not_tried_again_on_the_same_rows(self) -> None:
        self.history.loc[1] = ["kept_back", pd.Timestamp("2024-01-29")]
        assert self.due("2024-01-29") is None
        assert self.due("2024-02-05") == "5 label windows have closed since it was trained"


@pytest.mark.usefixtures("model_registry")
class TestEnsureChampion:
    rows = make_rows(n_customers=60, n_snapshots=3)
    labels = rows[["customer_id", "as_of_date", "churned", "horizon_spend"]]

    @pytest.fixture(autouse=True)
    def _features_without_feast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client, "apply", lambda: None)
        monkeypatch.setattr(
            client,
            "historical_features",
            lambda known, *services: known.merge(
                self.rows.drop(columns=["churned", "horizon_spend"]), on=["customer_id", "as_of_date"]
            ),
        )

    def test_trains_where_there_is_no_champion_and_then_rests(self) -> None:
        versions = ensure_champion(self.labels, 30, "if_missing")
        assert versions.is_champion.tolist() == [True]
        assert versions.reason.tolist() == ["the shop had no champion yet"]
        assert len(ensure_champion(self.labels, 30, "if_missing")) == 1
        assert len(ensure_champion(self.labels, 30, "never")) == 1

    def test_trains_anew_for_another_horizon(self) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        versions = ensure_champion(self.labels, 28, "if_missing")
        assert versions.horizon_days.tolist() == [30, 28]
        assert versions.is_champion.tolist() == [False, True]
        assert versions.reason.iloc[1] == "the champion predicts 30 days, not 28"

    def test_always_trains_but_promotes_only_what_is_better(self) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        versions = ensure_champion(self.labels, 30, "always")
        assert versions.decision.tolist() == ["promoted", "kept_back"]  # the same data give the same model
        assert registry.champion().version == "1"

    def test_a_damaged_champion_is_refused_in_one_line_and_replaced_where_training_is_asked_for(
        self, churn_home: Path
    ) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        weights = next((churn_home / "mlflow" / "artifacts").rglob("config.json"))
        weights.write_bytes(weights.read_bytes()[:100])
        for asked in ("if_missing", "never"):
            with pytest.raises(
                ChurnRadarError, match=r"champion 1 in .* cannot be read; .*run churn-radar train"
            ) as caught:
                ensure_champion(self.labels, 30, asked)
            assert "\n" not in str(caught.value)
        versions = ensure_champion(self.labels, 30, "always")
        assert versions.is_champion.tolist() == [False, True]
        assert versions.reason.iloc[1] == "the files of the champion were damaged"

    def test_a_champion_that_learned_from_texts_by_another_encoder_is_replaced(self) -> None:
        model = make_model(self.rows)
        model.words, model.encoder_revision = WordsModel(), "r1"
        churned = self.rows.churned.to_numpy(dtype=int)
        model.words.fit_transform(
            np.random.default_rng(0).normal(size=(len(churned), 4)), churned, np.arange(len(churned))
        )
        then = self.labels.as_of_date.max().date()
        registry.register(model, promote=True, reason="there was no champion", as_of_date=then)
        # the same encoder, or no text any more
        assert len(ensure_champion(self.labels, 30, "if_missing", "r1")) == 1
        assert len(ensure_champion(self.labels, 30, "never", None)) == 1
        with pytest.raises(ChurnRadarError, match="but the champion learned from texts by another encoder"):
            ensure_champion(self.labels, 30, "never", "r2")
        versions = ensure_champion(self.labels, 30, "if_missing", "r2")
        assert versions.is_champion.tolist() == [False, True]
        assert versions.reason.iloc[1] == "the champion learned from texts by another encoder"

    def test_a_transformer_does_not_score_where_it_is_off(self) -> None:
        model = make_fixed_model()
        model.transformer = SimpleNamespace(reads_words=False)
        reason = "the champion has a transformer, and churn__transformer is false"
        current = RegisteredModel("1", model)
        assert why_none_fits(current, 30, None, TrainingSettings(transformer=None)) == reason
        assert why_none_fits(current, 30, None, TrainingSettings()) is None

    def test_auto_rests_until_windows_have_closed_and_says_why_it_trains(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = make_rows(n_customers=60, n_snapshots=8)
        caplog.set_level("INFO")
        labels, earlier = rows[self.labels.columns], rows.as_of_date <= "2024-03-25"
        self.rows = rows
        ensure_champion(labels[earlier], 30, "auto", settings=TrainingSettings(transformer=None))
        assert len(ensure_champion(labels[earlier], 30, "auto", settings=TrainingSettings(transformer=None))) == 1
        assert "champion 1 is up to date" in caplog.text
        versions = ensure_champion(labels, 30, "auto", settings=TrainingSettings(transformer=None))
        assert versions.reason.iloc[1].startswith("16 label windows have closed since it was trained: log-loss")

    def test_a_past_date_is_answered_by_the_champion_of_then(self) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        newest = self.labels.as_of_date.max()
        before = self.labels[self.labels.as_of_date < newest]
        versions = ensure_champion(before, 30, "if_missing")  # nothing was decided for that date yet
        assert versions.as_of_date.tolist() == [newest, before.as_of_date.max()]
        assert versions.decision.tolist() == ["promoted", "promoted"]
        assert versions.is_champion.tolist() == [True, False]
        assert registry.champion(before.as_of_date.max().date()).version == "2"
        assert registry.champion(newest.date()).version == registry.champion().version == "1"
        assert len(ensure_champion(before, 30, "if_missing")) == 2

    def test_never_means_never(self) -> None:
        with pytest.raises(ChurnRadarError, match="churn__train is never, but the shop had no champion yet"):
            ensure_champion(self.labels, 30, "never")
        assert registry.versions().empty

    def test_without_a_known_outcome_nothing_is_trained(self) -> None:
        with pytest.raises(ChurnRadarError, match="Too little history to train"):
            ensure_champion(self.labels.assign(churned=None), 30, "if_missing")
