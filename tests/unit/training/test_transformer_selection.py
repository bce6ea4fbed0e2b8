from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from small_network import FILLERS, LONG, make_tiny_encoder

from inference.evaluation.metrics import paired_gain
from inference.model.sequences import read_sequences
from inference.model.training_data import TrainingData
from inference.model.transformer.settings import TransformerSettings
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings
from inference.training.settings import TrainingSettings
from inference.training.transformer_selection import (
    SelectionResult,
    _compare,
    search,
    select_transformer,
    train_transformer,
)
from inference.training.validation import (
    cross_fitted_logit,
    gain_of_words,
    losses_at_true_level,
    rolling_folds,
    rolling_validation,
)

HORIZON = 28

SMALL = replace(LONG, text_dropout=0.0, batch_rows=64, max_epochs=3)
FROZEN = replace(SMALL, fine_tuning="frozen")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_encoder(tmp_path_factory.mktemp("tiny"), "Bert")


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder that is a table of word vectors: there is nothing of a transformer in it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["[UNK]", "broken", "lovely", *FILLERS]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(words), 16)).astype(np.float32)
    folder = tmp_path_factory.mktemp("static")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)]).save(str(folder))
    return str(folder)


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, tiny: str) -> None:
    monkeypatch.setenv("CHURN_DEVICE", "cpu")
    monkeypatch.setenv("CHURN_ENCODER", tiny)


def make_data(words: float = 0.0, events: float = 0.0, wrote: float = 0.8, snapshots: int = 5) -> TrainingData:
    """240 customers at snapshots 28 days apart, whose log-odds are known by a column up to what is planted.

    Log-odds are higher by ``words`` for who wrote "broken" and lower for who wrote "lovely"; higher by ``events`` for
    whose newest event was a cancelled order and lower for whose newest was a visit.
    """
    rng = np.random.default_rng(0)
    n = 240 * snapshots
    x = rng.normal(0, 0.7, n)
    written = rng.choice(["broken", "lovely", ""], n, p=[wrote / 2, wrote / 2, 1 - wrote])
    happened = rng.choice(["cancelled", "visit"], n)
    log_odds = x + words * np.select([written == "broken", written == "lovely"], [1, -1], 0)
    log_odds = log_odds + events * np.where(happened == "cancelled", 1, -1)
    y = (rng.random(n) < expit(log_odds)).astype(int)
    texts = [" ".join([rng.choice(FILLERS), word, rng.choice(FILLERS)]) for word in written]
    given = [[i] if word else None for i, word in enumerate(written)]
    sequences = pd.DataFrame(
        {
            "event_types": [[event, "order"] for event in happened],
            "event_categories": [["", "toys"]] * n,
            "event_days_ago": [[3.0, 20.0]] * n,
            "event_amounts": [[0.0, 20.0]] * n,
            "text_ids": [None if g is None else [f"reviews:{g[0]}"] for g in given],
            "texts": [None if g is None else [texts[g[0]]] for g in given],
            "text_subjects": [None if g is None else [""] for g in given],
            "text_days_ago": [None if g is None else [2.0] for g in given],
            "text_ratings": [None if g is None else [0.0] for g in given],
        }
    )
    rows = pd.DataFrame(
        {
            "customer_id": np.tile([f"c{i:03}" for i in range(240)], snapshots),
            "as_of_date": np.repeat(pd.date_range("2024-01-01", periods=snapshots, freq=f"{HORIZON}D"), 240),
            "churned": y,
            "horizon_spend": (1 - y) * 20.0,
            "no_order_probability": 0.5,
        }
    )
    return TrainingData(rows, pd.DataFrame({"x": x}), y, read_sequences(sequences))


def judge(data: TrainingData, settings: TransformerSettings | None = SMALL, judging: int = 2) -> SelectionResult | None:
    asked = TrainingSettings(transformer_snapshots=judging, transformer=settings)
    folds = rolling_folds(data.rows, HORIZON, asked)
    return select_transformer(data, ["logistic"], folds, rolling_validation(data, HORIZON, asked), asked)


class TestPairedGain:
    def test_by_hand(self):
        # customer a gains 1 and 1, b gains 3: the mean is 5/3, a lies 4/3 below it in sum and b 4/3 above
        gain = paired_gain(np.array([1.0, 1.0, 3.0]), np.array(["a", "a", "b"]))
        error = np.sqrt(2 * (4 / 3) ** 2) / 3
        assert gain == pytest.approx({"mean": 5 / 3, "low": 5 / 3 - 1.96 * error, "high": 5 / 3 + 1.96 * error})

    @given(
        differences=st.lists(st.floats(-5, 5), min_size=2, max_size=20),
        copies=st.integers(2, 5),
        shift=st.floats(-5, 5),
    )
    def test_more_snapshots_of_the_same_customers_who_never_change_tell_nothing_more(self, differences, copies, shift):
        customers = np.arange(len(differences))
        once = paired_gain(np.array(differences), customers)
        often = paired_gain(np.tile(differences, copies), np.tile(customers, copies))
        assert often == pytest.approx(once, abs=1e-9)
        shifted = paired_gain(np.array(differences) + shift, customers)
        assert shifted == pytest.approx({name: value + shift for name, value in once.items()}, abs=1e-9)

    def test_everyone_gaining_the_same_leaves_no_doubt(self):
        gain = paired_gain(np.full(6, 0.25), np.array(list("aabbbc")))
        assert gain == pytest.approx({"mean": 0.25, "low": 0.25, "high": 0.25})


class TestLossesAtTrueLevel:
    table = pd.DataFrame(
        {
            "as_of_date": np.repeat(pd.to_datetime(["2024-03-01", "2024-04-01"]), 4),
            "customer_id": list("abcd") * 2,
            "churned": [0, 0, 1, 1, 0, 1, 0, 1],
            # half of each snapshot churned: log-odds symmetric about zero stand at the true level
            "logistic": [-2.0, -1.0, 1.0, 2.0] * 2,
            "boosting": [-4.0, 1.0, -1.0, 4.0] * 2,
        }
    )

    def test_by_hand(self):
        losses = losses_at_true_level(self.table, ["logistic"])
        right = [2.0, 1.0, 1.0, 2.0, 2.0, -1.0, -1.0, 2.0]  # how far on the right side of even odds each was
        np.testing.assert_allclose(losses, -np.log(expit(right)))

    def test_log_odds_are_averaged(self):
        losses = losses_at_true_level(self.table, ["logistic", "boosting"])
        np.testing.assert_allclose(losses[:4], -np.log(expit([3.0, 0.0, 0.0, 3.0])), atol=1e-6)

    @given(st.floats(-4, 4), st.floats(-4, 4))
    def test_the_level_of_each_snapshot_does_not_matter(self, first, second):
        moved = self.table.assign(logistic=self.table.logistic + np.repeat([first, second], 4))
        expected = losses_at_true_level(self.table, ["logistic"])
        np.testing.assert_allclose(losses_at_true_level(moved, ["logistic"]), expected, atol=1e-6)

    def test_gain_of_words_is_the_mean_difference_of_these_losses(self):
        better = self.table.assign(logistic=np.where(self.table.churned == 1, 2.0, -2.0), boosting=np.nan)
        names = ["logistic", "boosting"]
        gain = gain_of_words(self.table, better)
        expected = losses_at_true_level(self.table, names) - losses_at_true_level(better, names)
        assert gain["mean"] == pytest.approx(expected.mean())
        assert gain["low"] < gain["mean"] < gain["high"]

    def test_on_one_later_snapshot_words_earn_nothing(self):
        assert gain_of_words(self.table.head(4), self.table.head(4)) is None
        assert gain_of_words(self.table.head(0), self.table.head(0)) is None


class TestCrossFittedLogit:
    rng = np.random.default_rng(0)
    customers = np.repeat([f"c{i}" for i in range(60)], 3)
    X = pd.DataFrame({"x": rng.normal(size=180), "z": rng.normal(size=180)})
    y = (rng.random(180) < expit(2 * X.x)).astype(int)

    def data(self, y: np.ndarray) -> TrainingData:
        return TrainingData(pd.DataFrame({"customer_id": self.customers}), self.X, y)

    @pytest.mark.parametrize("names", [["logistic"], ["logistic", "boosting"]])
    def test_nobody_is_predicted_from_own_rows(self, names):
        logit = cross_fitted_logit(self.data(self.y.to_numpy()), names)
        own = self.customers == "c7"
        others = cross_fitted_logit(self.data(np.where(own, 1 - self.y, self.y)), names)
        np.testing.assert_array_equal(logit[own], others[own])
        assert (logit != others).mean() > 0.5  # everyone who was predicted from them is

    def test_every_row_is_predicted_and_well(self):
        logit = cross_fitted_logit(self.data(self.y.to_numpy()), ["logistic"])
        assert np.isfinite(logit).all()
        assert np.corrcoef(logit, self.X.x)[0, 1] > 0.9


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory, tiny: str):
    """Home and encoder for selections that several tests look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("CHURN_DEVICE", "cpu")
        patch.setenv("CHURN_ENCODER", tiny)
        yield


@pytest.fixture(scope="module")
def from_words(module_home: None) -> SelectionResult:
    return judge(make_data(words=2.5))


@pytest.fixture(scope="module")
def from_events(module_home: None) -> SelectionResult:
    return judge(make_data(events=1.5), FROZEN)


@pytest.fixture(scope="module")
def from_noise(module_home: None) -> SelectionResult:
    return judge(make_data(), FROZEN)


class TestJudging:
    def test_words_that_tell_are_kept(self, from_words):
        assert "transformer" in from_words.summary.averaged
        assert from_words.summary.variant in ("words", "fine_tuned")
        assert from_words.summary.gains["kept"]["low"] > 0.1
        assert from_words.summary.gains["words"]["mean"] + from_words.summary.gains["fine_tuned"]["mean"] > 0.1
        assert from_words.summary.losses[
            "+".join(from_words.summary.averaged) + f" ({from_words.summary.variant})"
        ] == min(loss for name, loss in from_words.summary.losses.items() if f"({from_words.summary.variant})" in name)

    def test_events_that_tell_are_kept_and_words_that_do_not_are_left_out(self, from_events):
        assert "transformer" in from_events.summary.averaged
        assert from_events.summary.gains["events"]["low"] > 0.05
        assert from_events.summary.gains["words"]["low"] <= 0
        assert from_events.summary.variant == "events"
        assert from_events.summary.gains["kept"] == from_events.summary.gains["events"]

    def test_where_nothing_tells_it_is_left_out(self, from_noise):
        assert from_noise.summary.averaged == ["logistic"]
        assert from_noise.summary.gains["kept"]["low"] <= 0

    def test_what_gains_next_to_nothing_while_tuning_is_not_judged(self, monkeypatch):
        monkeypatch.setattr("inference.training.transformer_selection.MIN_TUNING_GAIN", 9.0)
        selection = judge(make_data(events=1.5, wrote=0.1), replace(SMALL, max_epochs=1))
        assert selection.summary.averaged == ["logistic"]
        assert {history["name"] for history in selection.summary.histories} == {"tuning events"}
        assert 0 < selection.summary.gains["kept"]["mean"] < 9
        assert "transformer_events" not in selection.validation

    def test_a_variant_is_kept_only_where_it_gains_over_the_one_kept_before(self, from_words, from_events, from_noise):
        for selection in (from_words, from_events, from_noise):
            kept = "events"
            for variant in list(selection.summary.epochs)[1:]:
                kept = variant if selection.summary.gains[variant]["low"] > 0 else kept
            assert selection.summary.variant == kept

    def test_the_snapshot_that_tuned_judges_nothing(self, from_words):
        # snapshots 2 to 5 have something before them: of the newest three the first tunes
        judged = from_words.validation.dropna(subset=["transformer_events"])
        assert sorted(judged.as_of_date.dt.strftime("%m-%d").unique()) == ["03-25", "04-22"]
        assert judged[["transformer_words", "transformer_fine_tuned"]].notna().all(axis=None)
        assert [h["name"] for h in from_words.summary.histories] == [
            *("tuning events", "tuning words", "tuning fine_tuned"),
            *(f"judging {v} at 2024-03-25" for v in ("events", "words", "fine tuned")),
            *(f"judging {v} at 2024-04-22" for v in ("events", "words", "fine tuned")),
        ]
        assert [bool(h["later"]) for h in from_words.summary.histories] == [True] * 3 + [False] * 6

    def test_what_happened_later_tunes_nothing(self):
        data = make_data(events=1.5, wrote=0.1)
        judged = (data.rows.as_of_date >= "2024-03-25").to_numpy()
        y = np.where(judged, 1 - data.y, data.y)
        poisoned = replace(data, y=y, rows=data.rows.assign(churned=y))
        once = replace(SMALL, max_epochs=1)
        selection, fooled = judge(data, once), judge(poisoned, once)
        assert fooled.summary.epochs == selection.summary.epochs
        assert fooled.summary.histories[0]["later"] == selection.summary.histories[0]["later"]
        assert fooled.summary.losses != selection.summary.losses

    def test_where_it_was_not_judged_it_says_what_the_tabular_members_say(self, from_words):
        table = from_words.validation
        before = table.transformer_events.isna()
        np.testing.assert_array_equal(table.transformer[before], table.logistic[before])
        chosen = table[f"transformer_{from_words.summary.variant}"][~before]
        np.testing.assert_array_equal(table.transformer[~before], chosen)

    def test_too_few_later_snapshots_judge_nothing(self):
        assert judge(make_data(snapshots=3)) is None

    def test_without_settings_it_is_not_tried(self):
        assert judge(make_data(), None) is None

    def test_where_hardly_anyone_wrote_words_are_not_read(self):
        selection = judge(make_data(wrote=0.1), replace(FROZEN, max_epochs=1), judging=1)
        assert list(selection.summary.epochs) == ["events"]
        assert selection.summary.variant == "events"

    def test_an_encoder_without_a_transformer_is_read_as_it_is(self, static, monkeypatch, caplog):
        caplog.set_level("INFO")
        monkeypatch.setenv("CHURN_ENCODER", static)
        assert Encoder(EncoderSettings(static, "cpu", fidelity=1.0)).transformer is None
        selection = judge(make_data(words=2.5), judging=1)
        assert f"{static} has no transformer to fine-tune: its embeddings are used as they are" in caplog.text
        assert list(selection.summary.epochs) == ["events", "words"]
        assert selection.summary.variant == "words"
        assert "transformer" in selection.summary.averaged


class TestTrainingTheOneKept:
    def test_it_is_trained_as_it_was_judged_on_all_rows(self, from_words, churn_home: Path):
        data = make_data(words=2.5)
        selection = replace(
            from_words,
            summary=replace(from_words.summary, histories=[], epochs=dict.fromkeys(from_words.summary.epochs, 0.5)),
        )
        member = train_transformer(data, ["logistic"], selection)
        assert member.reads_words
        assert member.fine_tuned == (selection.summary.variant == "fine_tuned")
        assert [h["name"] for h in selection.summary.histories] == ["training"]
        assert selection.seconds > 0
        steps = selection.summary.epochs[selection.summary.variant] * len(data.y) / SMALL.batch_rows
        assert selection.summary.histories[0]["steps"][-1]["step"] == round(steps)


class TestSearch:
    fold = SimpleNamespace(earlier=None, later=None)

    @pytest.fixture
    def tried(self, monkeypatch: pytest.MonkeyPatch) -> list[TransformerSettings]:
        """Settings that were tried, where the log-loss is lower the lower the learning rate is."""
        tried = []

        def fit(data: None, variant: str, settings: TransformerSettings, *rest: object, later: None) -> SimpleNamespace:
            tried.append(settings)
            losses = [{"log_loss": 1.0}, {"log_loss": 100 * settings.learning_rate}]
            return SimpleNamespace(history_=SimpleNamespace(later=losses))

        monkeypatch.setattr("inference.training.transformer_selection._fit", fit)
        return tried

    def test_the_settings_given_are_tried_first_and_the_best_are_kept(self, tried):
        best = search(self.fold, TransformerSettings(), 8)
        assert tried[0] == TransformerSettings()
        assert len(tried) == 8
        assert best == min(tried, key=lambda settings: settings.learning_rate)
        assert best.learning_rate < TransformerSettings().learning_rate

    def test_the_settings_given_stay_where_nothing_better_is_found(self, tried):
        # the lower end of what is tried, and a width that is tried only because it was given
        slowest = replace(TransformerSettings(), learning_rate=1e-4, width=40)
        assert search(self.fold, slowest, 8) == slowest


@pytest.mark.parametrize(("shuffled", "kept"), [(0.0, "words"), (1.0, "events")], ids=["only words help", "noise too"])
def test_words_are_heard_only_where_they_beat_shuffled_ones(shuffled, kept):
    rng = np.random.default_rng(0)
    churned = rng.integers(0, 2, 600)
    judged = pd.DataFrame(
        {
            "customer_id": np.arange(600).astype(str),
            "as_of_date": np.repeat(pd.to_datetime(["2024-01-01", "2024-02-01"]), 300),
            "churned": churned,
            "boosting": rng.normal(size=600),
        }
    )
    informed = judged.boosting + np.where(churned == 1, 1.0, -1.0)
    judged["events"], judged["words"] = judged.boosting, informed
    judged["shuffled_words"] = judged.boosting + shuffled * (informed - judged.boosting)
    selection = _compare(["boosting"], judged, judged, SMALL, {"events": 1.0, "words": 1.0}, [])
    assert selection.summary.gains["words"]["low"] > 0
    assert (selection.summary.gains["words_against_shuffled"]["low"] > 0) == (kept == "words")
    assert selection.summary.variant == kept
    assert ("transformer" in selection.summary.averaged) == (kept == "words")
