from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import make_model, make_rows, make_saying_model

from inference import feature_store, registry
from inference.champion import compare, ensure_champion
from inference.errors import ChurnRadarError
from inference.registry import RegisteredModel
from inference.training import train
from inference.words import WordsModel

LN_2 = 0.69315

#: Four customers of whom nothing is known: log-odds of zero, log-loss ln 2.
FOUR = pd.DataFrame(
    {
        "customer_id": list("abcd") * 2,
        "as_of_date": np.repeat(pd.to_datetime(["2024-03-01", "2024-05-01"]), 4),
        "churned": [0, 1, 0, 1] * 2,
        "said": 0.0,
        "no_order_probability": 0.5,
    }
)


def make_champion(last_snapshot: str, losses: dict[str, float], version: str = "3") -> RegisteredModel:
    return RegisteredModel(version, make_saying_model(last_snapshot=last_snapshot, validation_log_losses=losses))


class TestCompareOnLaterRows:
    def test_a_lower_loss_wins(self) -> None:
        challenger = make_saying_model(validation_log_losses={"2024-05-01": 0.5})
        promote, reason = compare(make_champion("2024-03-01", {}), challenger, FOUR)
        assert promote is True
        assert reason == f"log-loss 0.50000, below {LN_2} of champion 3, on 1 later snapshots"

    def test_a_higher_loss_loses(self) -> None:
        challenger = make_saying_model(validation_log_losses={"2024-05-01": 0.7})
        promote, reason = compare(make_champion("2024-03-01", {}), challenger, FOUR)
        assert promote is False
        assert reason == f"log-loss 0.70000, not below {LN_2} of champion 3, on 1 later snapshots"

    def test_the_champion_answers_as_it_would_have_at_the_anchored_level(self) -> None:
        # at 2024-05-01 the newest known rate is that of 2024-03-01: 1/4
        rows = FOUR.assign(churned=[0, 0, 0, 1, 0, 1, 0, 1])
        champion = make_champion("2024-03-01", {})
        champion.model.anchor = "latest_rate"
        by_hand = -(np.log(0.25) + np.log(0.75)) / 2
        _, reason = compare(champion, make_saying_model(validation_log_losses={"2024-05-01": 0.5}), rows)
        assert f"below {by_hand:.5f} of champion" in reason

    def test_snapshots_that_the_champion_learned_from_do_not_count(self) -> None:
        losses = {"2024-03-01": 0.01, "2024-05-01": 0.7}
        promote, _ = compare(make_champion("2024-03-01", {}), make_saying_model(validation_log_losses=losses), FOUR)
        assert promote is False

    def test_snapshots_whose_outcomes_the_champion_learned_do_not_count_either(self) -> None:
        # the champion saw who ordered until 2024-05-10, so it may not be asked about 2024-05-01
        champion = make_champion("2024-04-10", {"2024-03-01": 0.6})
        challenger = make_saying_model(validation_log_losses={"2024-03-01": 0.5, "2024-05-01": 0.99})
        promote, reason = compare(champion, challenger, FOUR)
        assert promote is True
        assert "on 1 shared snapshots" in reason

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
        champion = make_champion("2024-05-01", {"2024-02-01": 0.9, "2024-03-01": 0.4, "2024-05-01": 0.6})
        challenger = make_saying_model(validation_log_losses={"2024-03-01": 0.3, "2024-05-01": 0.5, "2024-04-15": 0.9})
        promote, reason = compare(champion, challenger, FOUR)
        assert promote is True
        assert reason == ("log-loss 0.40000, below 0.50000 of champion 3, in rolling validation on 2 shared snapshots")

    def test_an_equal_loss_changes_nothing(self) -> None:
        same = {"2024-03-01": 0.4}
        promote, reason = compare(
            make_champion("2024-05-01", same), make_saying_model(validation_log_losses=same), FOUR
        )
        assert promote is False
        assert "not below" in reason


@pytest.mark.parametrize(
    ("ours", "theirs"), [({}, {}), ({"2024-03-01": 0.1}, {}), ({"2024-03-01": 0.1}, {"2024-02-01": 0.9})]
)
def test_with_nothing_to_compare_the_champion_stays(ours: dict, theirs: dict) -> None:
    promote, reason = compare(make_champion("2024-05-01", theirs), make_saying_model(validation_log_losses=ours), FOUR)
    assert promote is False
    assert reason == "no later rows to compare with champion 3"


@pytest.mark.usefixtures("model_registry")
class TestEnsureChampion:
    rows = make_rows(n_customers=60, n_snapshots=3)
    labels = rows[["customer_id", "as_of_date", "churned", "horizon_spend"]]

    @pytest.fixture(autouse=True)
    def _features_without_feast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        features = self.rows.drop(columns=["churned", "horizon_spend"])
        monkeypatch.setattr(feature_store, "apply", lambda: None)
        monkeypatch.setattr(
            feature_store,
            "historical_features",
            lambda known, *services: known.merge(features, on=["customer_id", "as_of_date"]),
        )

    def test_trains_where_there_is_no_champion_and_then_rests(self) -> None:
        versions = ensure_champion(self.labels, 30, "if_missing")
        assert versions.is_champion.tolist() == [True]
        assert versions.reason.tolist() == ["there was no champion"]
        assert len(ensure_champion(self.labels, 30, "if_missing")) == 1
        assert len(ensure_champion(self.labels, 30, "never")) == 1

    def test_trains_anew_for_another_horizon(self) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        versions = ensure_champion(self.labels, 28, "if_missing")
        assert versions.horizon_days.tolist() == [30, 28]
        assert versions.is_champion.tolist() == [False, True]
        assert versions.reason.iloc[1] == "the champion answers 30 days, not 28"

    def test_always_trains_but_promotes_only_what_is_better(self) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        versions = ensure_champion(self.labels, 30, "always")
        assert versions.decision.tolist() == ["promoted", "kept_back"]  # the same data give the same model
        assert registry.champion().version == "1"

    def test_a_damaged_champion_is_refused_in_one_line_and_replaced_where_training_is_asked_for(
        self, churn_home: Path
    ) -> None:
        ensure_champion(self.labels, 30, "if_missing")
        (weights,) = (churn_home / "mlflow" / "artifacts").rglob("logistic.skops")
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
        registry.register(model, promote=True, reason="there was no champion")
        # the same encoder, or no text any more
        assert len(ensure_champion(self.labels, 30, "if_missing", "r1")) == 1
        assert len(ensure_champion(self.labels, 30, "never", None)) == 1
        with pytest.raises(ChurnRadarError, match="but the champion learned from texts by another encoder"):
            ensure_champion(self.labels, 30, "never", "r2")
        versions = ensure_champion(self.labels, 30, "if_missing", "r2")
        assert versions.is_champion.tolist() == [False, True]
        assert versions.reason.iloc[1] == "the champion learned from texts by another encoder"

    def test_never_means_never(self) -> None:
        with pytest.raises(ChurnRadarError, match="churn__train is never, but there was no champion"):
            ensure_champion(self.labels, 30, "never")
        assert registry.versions().empty

    def test_without_a_known_outcome_nothing_is_trained(self) -> None:
        with pytest.raises(ChurnRadarError, match="Too little history to train"):
            ensure_champion(self.labels.assign(churned=None), 30, "if_missing")
