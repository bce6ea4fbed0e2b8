from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from inference import fine_tuning, transformer
from inference.batches import Tokens
from inference.calibration import level_shift
from inference.checkpoints import checkpoints, forget_checkpoints
from inference.classifier import ChurnTransformer, ChurnTransformerConfig, TextVectors
from inference.encoder import Encoder
from inference.encoder_settings import EncoderSettings
from inference.errors import ChurnRadarError
from inference.fine_tuning import encode_texts
from inference.openvino_runtime import OpenVINORuntime, traced
from inference.sequences import CATEGORY_BUCKETS, EVENT_COLUMNS, TEXT_COLUMNS, Sequences, read_sequences
from inference.torch_runtime import TorchRuntime
from inference.transformer import PARTS, TransformerMember
from inference.transformer_settings import TransformerSettings

WORDS = ["the", "a", "parcel", "late", "fits", "never", "again", "broken", "lovely", "perfectly"]
FILLERS = ["the", "a", "parcel", "late", "fits", "never", "again", "perfectly"]

SMALL = TransformerSettings(
    width=16,
    event_layers=1,
    learning_rate=5e-3,
    encoder_learning_rate=1e-3,
    batch_rows=32,
    most_epochs=1,
    top_layers=1,
    checkpoint_seconds=1e9,
)
#: Long and fast enough to learn what a word means.
LONG = replace(SMALL, most_epochs=5, learning_rate=1e-2, encoder_learning_rate=3e-3, dropout=0.0, token_dropout=0.0)
MODES = ["top", "lora", "full"]


@dataclass
class Shop:
    """Customers of whom one column, two events and at most one text are known."""

    X: pd.DataFrame
    sequences: Sequences
    tabular: np.ndarray
    y: np.ndarray
    spend: np.ndarray

    def take(self, rows: slice) -> "Shop":
        positions = np.arange(len(self.y))[rows]
        parts = (self.tabular[rows], self.y[rows], self.spend[rows])
        return Shop(self.X.iloc[rows].reset_index(drop=True), self.sequences.take(positions), *parts)

    @property
    def asked(self) -> tuple[pd.DataFrame, Sequences, np.ndarray]:
        return self.X, self.sequences, self.tabular

    @property
    def later(self) -> tuple[pd.DataFrame, Sequences, np.ndarray, np.ndarray]:
        return *self.asked, self.y


def make_shop(n: int = 360, seed: int = 0) -> Shop:
    """Log-odds of churn are the tabular ones, plus 3 for who wrote "broken" and minus 3 for who wrote "lovely"."""
    rng = np.random.default_rng(seed)
    said = rng.choice(["broken", "lovely", ""], n, p=[0.4, 0.4, 0.2])
    texts = [" ".join([*rng.choice(FILLERS, 2), word, *rng.choice(FILLERS, 2)]) for word in said]
    tabular = rng.normal(0, 0.5, n)
    y = (rng.random(n) < expit(tabular + 3.0 * (said == "broken") - 3.0 * (said == "lovely"))).astype(int)
    days = np.sort(rng.uniform(1, 100, (n, 2)), axis=1)
    wrote = said != ""
    rows = {
        "event_types": [["order", "visit"]] * n,
        "event_categories": [["toys", ""]] * n,
        "event_days_ago": list(days),
        "event_amounts": [[20.0, 0.0]] * n,
        "text_ids": [[f"reviews:{i}"] if w else None for i, w in enumerate(wrote)],
        "texts": [[text] if w else None for text, w in zip(texts, wrote, strict=True)],
        "text_subjects": [["lamp"] if w else None for w in wrote],
        "text_days_ago": [[2.0] if w else None for w in wrote],
        "text_ratings": [[0.0] if w else None for w in wrote],
    }
    X = pd.DataFrame({"x": tabular, "sometimes_null": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))})
    return Shop(X, read_sequences(pd.DataFrame(rows)), tabular, y, (1 - y) * rng.gamma(2, 20, n))


def make_sequences(*texts: list[str]) -> Sequences:
    """Customers without events who wrote these texts, newest first."""
    columns = {name: [None] * len(texts) for name in EVENT_COLUMNS}
    whole = (lambda i, text: f"reviews:{i}", lambda i, text: text, lambda i, text: "", lambda i, text: i + 1.0)
    for name, value in zip(TEXT_COLUMNS, (*whole, lambda i, text: 0.0), strict=True):
        columns[name] = [[value(i, text) for i, text in enumerate(own)] for own in texts]
    return read_sequences(pd.DataFrame(columns))


def make_tiny_encoder(folder: Path, architecture: str) -> str:
    """Save an untrained encoder of two layers that knows ``WORDS``; return its path."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    common = {"vocab_size": len(vocabulary), "max_position_embeddings": 64}
    if architecture == "Bert":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    else:
        shape = {"dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    model = getattr(transformers, f"{architecture}Model")(
        getattr(transformers, f"{architecture}Config")(**common, **shape)
    )
    model.save_pretrained(folder / "plain")
    getattr(transformers, f"{architecture}TokenizerFast")(vocab=vocabulary).save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain"), max_seq_length=64), Pooling(model.config.hidden_size)]
    SentenceTransformer(modules=modules).save(str(folder / "tiny"))
    return str(folder / "tiny")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(EncoderSettings(make_tiny_encoder(tmp_path_factory.mktemp("bert"), "Bert"), "cpu", fidelity=1.0))


@pytest.fixture(scope="session")
def distilbert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """An encoder of another architecture and dimension."""
    return Encoder(
        EncoderSettings(make_tiny_encoder(tmp_path_factory.mktemp("distilbert"), "DistilBert"), "cpu", fidelity=1.0)
    )


@pytest.fixture(scope="session")
def shop() -> Shop:
    return make_shop()


@pytest.fixture(scope="session")
def earlier(shop: Shop) -> Shop:
    return shop.take(slice(0, 240))


@pytest.fixture(scope="session")
def few(earlier: Shop) -> Shop:
    """Enough where nothing is to be learned."""
    return earlier.take(slice(0, 64))


@pytest.fixture(scope="session")
def later(shop: Shop) -> Shop:
    return shop.take(slice(240, None))


@pytest.fixture(autouse=True)
def small_world(monkeypatch: pytest.MonkeyPatch, bert: Encoder) -> None:
    """Networks run on the CPU, and a network that is loaded finds the tiny encoder."""
    monkeypatch.setenv("CHURN_DEVICE", "cpu")
    monkeypatch.setenv("CHURN_ENCODER", bert.settings.name)


def fit(shop: Shop, settings: TransformerSettings, encoder: Encoder | None = None, **how: object) -> TransformerMember:
    """Train; what of the encoder learns is what the settings say."""
    arguments = {"encoder": encoder, "fine_tuned": encoder is not None} | how
    return TransformerMember(settings).fit(*shop.asked, shop.y, shop.spend, **arguments)


@pytest.fixture(scope="session")
def trained(earlier, bert, tmp_path_factory) -> Callable[[str], TransformerMember]:
    """Members that had the time to learn, by what of the encoder learned."""
    members: dict[str, TransformerMember] = {}

    def get(mode: str) -> TransformerMember:
        if mode not in members:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("trained")))
                patch.setenv("CHURN_DEVICE", "cpu")
                members[mode] = fit(earlier, replace(LONG, fine_tuning=mode), bert)
        return members[mode]

    return get


def log_loss(logit: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, -logit * np.where(y == 1, 1, -1))))


def weights(member: TransformerMember) -> dict[str, np.ndarray]:
    return {name: w.numpy().copy() for name, w in member.model_.state_dict().items()}


def assert_same_weights(one: dict[str, np.ndarray], other: dict[str, np.ndarray], atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=atol, err_msg=name)


def differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], other[name])}


class TestBeginning:
    @pytest.mark.parametrize("encoder", [None, "bert", "distilbert"])
    @pytest.mark.parametrize("fine_tuned", [False, True])
    def test_a_network_that_learned_nothing_says_what_the_tabular_members_say(self, shop, encoder, fine_tuned, request):
        idle = replace(SMALL, learning_rate=0.0, encoder_learning_rate=0.0, most_epochs=0)
        reader = None if encoder is None else request.getfixturevalue(encoder)
        member = fit(shop, idle, reader, fine_tuned=fine_tuned and reader is not None)
        np.testing.assert_array_equal(member.logit(*shop.asked), shop.tabular.astype(np.float32))
        mean = shop.spend[shop.y == 0].mean()
        np.testing.assert_allclose(member.expected_spend(*shop.asked), np.full(len(shop.y), mean))

    def test_words_that_join_a_trained_network_begin_at_the_tabular_answer(self, few, bert):
        events = fit(few, SMALL)
        assert np.abs(events.logit(*few.asked) - few.tabular).max() > 0.01
        idle = replace(SMALL, learning_rate=0.0, encoder_learning_rate=0.0, most_epochs=0)
        words = fit(few, idle, bert, start=events)
        np.testing.assert_array_equal(words.logit(*few.asked), few.tabular.astype(np.float32))
        own = weights(words)
        for name, weight in weights(events).items():
            if not name.startswith(("churn_head", "spend_head")):
                np.testing.assert_array_equal(own[name], weight, err_msg=name)

    def test_fine_tuning_goes_on_from_the_answer_of_frozen_words(self, earlier, few, bert):
        events = fit(few, SMALL)
        words = fit(earlier, replace(LONG, fine_tuning="frozen"), bert, start=events)
        assert np.abs(words.logit(*few.asked) - few.tabular).max() > 0.01
        idle = replace(SMALL, learning_rate_fine_tuning=0.0, encoder_learning_rate=0.0, fine_tuning="full")
        tuned = fit(earlier, idle, bert, start=words)
        assert tuned.history_.steps[-1]["epoch"] == pytest.approx(idle.most_epochs_fine_tuning, abs=0.2)
        np.testing.assert_allclose(tuned.logit(*few.asked), words.logit(*few.asked), atol=2e-3)


class TestLoss:
    def answer(self, churned: list[float], spend: list[float], **shape: object) -> float:
        """Loss of a new network that gives everyone even odds and the mean spend."""
        model = ChurnTransformer(ChurnTransformerConfig(n_numbers=1, width=8, event_layers=0, **shape)).eval()
        n = len(churned)
        labels = {"churned": torch.tensor(churned), "spend": torch.tensor(spend)}
        return float(model(torch.zeros(n), torch.zeros((n, 1)), **labels).loss.detach())

    def test_it_is_cross_entropy_plus_a_tenth_of_the_deviance_of_spend(self):
        # spend of the one who ordered: exp(0) - spend * 0 = 1, of two customers half of that
        assert self.answer([1.0, 0.0], [0.0, 3.0]) == pytest.approx(np.log(2) + 0.1 * 0.5)

    def test_focal_loss_weighs_a_customer_by_the_square_of_the_error(self):
        assert self.answer([1.0], [0.0], loss="focal") == pytest.approx(np.log(2) / 4)

    def test_the_weight_of_who_churned_counts_in_the_mean_too(self):
        # 3 log 2 + log 2 over 3 + 1
        said = self.answer([1.0, 0.0], [0.0, 0.0], positive_weight=3.0, spend_weight=0.0)
        assert said == pytest.approx(np.log(2))


class TestLearning:
    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_a_word_that_decides_is_learned(self, trained, later, mode):
        loss = log_loss(trained(mode).logit(*later.asked), later.y)
        assert loss < log_loss(later.tabular, later.y) - 0.1

    def test_words_of_others_do_not_help(self, trained, later):
        shuffled = replace(later, sequences=later.sequences.with_shuffled_words())
        assert log_loss(trained("full").logit(*shuffled.asked), later.y) > log_loss(later.tabular, later.y)

    def test_an_encoder_of_another_architecture_and_dimension_learns_by_its_path_alone(
        self, earlier, later, distilbert
    ):
        member = fit(earlier, replace(LONG, fine_tuning="full"), distilbert)
        assert member.model_.config.text_width == 24
        assert log_loss(member.logit(*later.asked), later.y) < log_loss(later.tabular, later.y) - 0.1

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_it_answers_where_nobody_wrote(self, trained, later, mode):
        silent = make_sequences(*[[] for _ in later.y])
        assert silent.words == []
        said = trained(mode).logit(later.X, silent, later.tabular)
        assert np.isfinite(said).all()
        without = later.sequences.without_events().without_texts()
        np.testing.assert_allclose(trained(mode).logit(later.X, without, later.tabular), said, atol=1e-6)

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_it_trains_where_nobody_wrote(self, few, bert, mode):
        silent = replace(few, sequences=make_sequences(*[[] for _ in few.y]))
        member = fit(silent, replace(SMALL, fine_tuning=mode), bert)
        assert np.isfinite(member.logit(*silent.asked)).all()

    def test_it_trains_where_everyone_churned(self, few, bert):
        gone = replace(few, y=np.ones_like(few.y), spend=np.zeros_like(few.spend))
        member = fit(gone, SMALL, bert)
        assert np.isfinite(member.logit(*gone.asked)).all()
        assert np.isfinite(member.expected_spend(*gone.asked)).all()

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_odd_texts_have_finite_answers(self, trained, mode):
        odd = [
            [""],
            ["😀😀"],
            ["<p>broken</p>"],
            ["broken " * 15_000],
            ["\x00\x01\ufffd"],
            ["late 很晚 tarde", "", "a"],
        ]
        X = pd.DataFrame({"x": np.zeros(len(odd)), "sometimes_null": np.nan})
        assert np.isfinite(trained(mode).logit(X, make_sequences(*odd), np.zeros(len(odd)))).all()

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_a_customer_gets_the_same_answer_alone_as_among_others(self, trained, later, mode):
        together = trained(mode).logit(*later.asked)
        alone = [trained(mode).logit(*later.take(slice(i, i + 1)).asked)[0] for i in range(5)]
        np.testing.assert_allclose(alone, together[:5], atol=1e-5)

    def test_no_more_rows_are_read_than_the_settings_say(self, earlier, bert):
        few = replace(SMALL, most_rows=64, most_rows_with_words=32)
        assert fit(earlier, few).history_.steps[-1]["step"] == 2
        assert fit(earlier, few, bert).history_.steps[-1]["step"] == 1

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_it_learns_on_cuda_as_well(self, earlier, later, bert, monkeypatch, tmp_path):
        monkeypatch.setenv("CHURN_DEVICE", "cuda")
        member = fit(earlier, replace(LONG, fine_tuning="full"), bert)
        assert member.model_.device.type == "cuda"
        on_cuda = member.logit(*later.asked)
        assert log_loss(on_cuda, later.y) < log_loss(later.tabular, later.y) - 0.1
        member.save(tmp_path)
        monkeypatch.setenv("CHURN_DEVICE", "cpu")
        on_cpu = TransformerMember.load(tmp_path).logit(*later.asked, keep=False)
        np.testing.assert_allclose(on_cpu, on_cuda, atol=1e-3)


class TestWhatLearns:
    def changed(self, member: TransformerMember, encoder: Encoder) -> set[str]:
        """Names of the encoder's weights that are no longer what they were."""
        return differ(
            {name: w.numpy() for name, w in encoder.transformer.state_dict().items()},
            {name: w.numpy() for name, w in member.model_.encoder.state_dict().items()},
        )

    def test_a_frozen_encoder_stays_as_it_is_and_is_not_saved_along(self, trained, bert):
        member = trained("frozen")
        assert not member.fine_tuned
        assert not [name for name in weights(member) if name.startswith("encoder.")]

    def test_of_the_upper_layers_only_those_asked_for_change(self, trained, bert):
        changed = self.changed(trained("top"), bert)
        assert changed
        assert all(name.startswith("encoder.layer.1.") for name in changed)

    def test_lora_changes_queries_and_values_of_every_layer_and_leaves_a_plain_network(self, trained, bert):
        member = trained("lora")
        assert self.changed(member, bert) == {
            f"encoder.layer.{layer}.attention.self.{name}.weight" for layer in (0, 1) for name in ("query", "value")
        }
        assert weights(member).keys() == weights(trained("full")).keys()

    def test_all_of_the_encoder_changes_if_asked_for(self, trained, bert):
        changed = self.changed(trained("full"), bert)
        assert {"embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"} <= changed
        # the pooler that BERT brings along has no part in the answer
        left = {name for name in bert.transformer.state_dict() if not name.startswith("pooler.")} - changed
        assert left == set()

    @pytest.mark.parametrize("mode", MODES)
    def test_the_encoder_that_training_starts_from_is_left_alone(self, few, bert, mode):
        before = {name: w.numpy().copy() for name, w in bert.transformer.state_dict().items()}
        fit(few, replace(SMALL, fine_tuning=mode), bert)
        assert not differ(before, {name: w.numpy() for name, w in bert.transformer.state_dict().items()})
        assert all(p.requires_grad for p in bert.transformer.parameters())

    @pytest.mark.parametrize("mode", MODES)
    def test_every_mode_fits_another_architecture(self, few, distilbert, mode):
        member = fit(few, replace(SMALL, fine_tuning=mode), distilbert)
        assert self.changed(member, distilbert)
        assert np.isfinite(member.logit(*few.asked)).all()


class TestSaving:
    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_a_member_that_is_loaded_answers_as_before(self, trained, later, tmp_path, mode):
        member = trained(mode)
        member.save(tmp_path)
        loaded = TransformerMember.load(tmp_path)
        np.testing.assert_allclose(loaded.logit(*later.asked), member.logit(*later.asked), atol=1e-6)
        np.testing.assert_allclose(loaded.expected_spend(*later.asked), member.expected_spend(*later.asked), rtol=1e-6)
        assert loaded.settings == member.settings

    def test_a_member_without_words_is_loaded_as_well(self, few, tmp_path):
        member = fit(few, SMALL)
        member.save(tmp_path)
        loaded = TransformerMember.load(tmp_path)
        assert not loaded.reads_words
        np.testing.assert_allclose(loaded.logit(*few.asked), member.logit(*few.asked), atol=1e-6)

    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_the_network_itself_goes_there_and_back(self, trained, tmp_path, mode):
        model = trained(mode).model_
        model.save_pretrained(tmp_path)
        again = ChurnTransformer.from_pretrained(tmp_path)
        assert again.config.to_dict()["encoder"] == model.config.to_dict()["encoder"]
        loaded = {name: w.numpy() for name, w in again.state_dict().items()}
        assert_same_weights(loaded, weights(trained(mode)), atol=0)

    def test_another_architecture_goes_there_and_back(self, few, distilbert, tmp_path):
        member = fit(few, SMALL, distilbert)
        member.save(tmp_path)
        loaded = TransformerMember.load(tmp_path)
        np.testing.assert_allclose(
            loaded.logit(*few.asked, keep=False), member.logit(*few.asked, keep=False), atol=1e-6
        )


class TestSeed:
    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_the_same_seed_gives_the_same_weights_and_another_one_others(self, few, bert, mode):
        settings = replace(SMALL, fine_tuning=mode)
        first = weights(fit(few, settings, bert))
        torch.manual_seed(123)
        np.random.default_rng(123)
        assert not differ(first, weights(fit(few, settings, bert)))
        other = weights(fit(few, replace(settings, seed=1), bert))
        assert {"churn_head.weight", "texts.words.weight"} <= differ(first, other)

    def test_training_leaves_the_random_numbers_of_others_alone(self, few, bert):
        before = torch.get_rng_state()
        fit(few, SMALL, bert)
        assert torch.equal(before, torch.get_rng_state())


class Killed(BaseException):
    """What SIGKILL does, as far as the code after it can tell."""


@pytest.fixture
def kill_at_step(monkeypatch) -> Callable[[int], None]:
    """Make training die in its n-th step from now on, before the weights change."""
    clip = fine_tuning.clip_grad_norm_

    def arm(step: int) -> None:
        steps = iter(range(1, 1_000_000))

        def die(*arguments: object) -> None:
            if next(steps) == step:
                monkeypatch.setattr(fine_tuning, "clip_grad_norm_", clip)
                raise Killed
            clip(*arguments)

        monkeypatch.setattr(fine_tuning, "clip_grad_norm_", die)

    return arm


class TestResuming:
    # 2 batches of 16 rows a step: 8 steps for 240 rows, 2 for 64; every augmentation on
    settings = replace(SMALL, batch_rows=16, accumulation=2, checkpoint_seconds=0.0)
    undisturbed = replace(settings, checkpoint_seconds=1e9)

    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_killed_and_resumed_is_as_if_nothing_had_happened(self, earlier, bert, mode, kill_at_step, capsys):
        expected = fit(earlier, replace(self.undisturbed, fine_tuning=mode), bert)
        settings = replace(self.settings, fine_tuning=mode)
        for step in (4, 3):  # the second time it dies three steps after it was resumed
            kill_at_step(step)
            with pytest.raises(Killed):
                fit(earlier, settings, bert)
        member = fit(earlier, settings, bert)
        out = capsys.readouterr().out
        assert out.count("resumed after step 3\n") == 1
        assert out.count("resumed after step 5\n") == 1
        assert_same_weights(weights(member), weights(expected))
        np.testing.assert_allclose(member.logit(*earlier.asked), expected.logit(*earlier.asked), atol=1e-5)

    @pytest.mark.parametrize("look", [1, 2])
    def test_killed_while_later_rows_are_looked_at(self, earlier, later, bert, look, monkeypatch, capsys):
        expected = fit(earlier, self.undisturbed, bert, later=later.later)
        log_loss_at = fine_tuning.log_loss_at
        looks = []

        def die(*arguments: object) -> float:
            looks.append(1)
            if len(looks) == look:
                raise Killed
            return log_loss_at(*arguments)

        monkeypatch.setattr(fine_tuning, "log_loss_at", die)
        with pytest.raises(Killed):
            fit(earlier, self.settings, bert, later=later.later)
        member = fit(earlier, self.settings, bert, later=later.later)
        assert "resumed after step" in capsys.readouterr().out
        assert_same_weights(weights(member), weights(expected))
        assert member.history_.best_epochs == expected.history_.best_epochs
        assert [p["log_loss"] for p in member.history_.later] == pytest.approx(
            [p["log_loss"] for p in expected.history_.later]
        )

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda whole: b"",
            lambda whole: b"not a checkpoint\n",
            lambda whole: whole[: len(whole) // 2],
            lambda whole: whole[:-1],
            lambda whole: b"\x80\x02h\x05.",
            lambda whole: bytes(1000),
        ],
        ids=["empty", "text", "half", "a byte short", "odd pickle", "zeros"],
    )
    def test_a_corrupted_checkpoint_is_reported_and_training_starts_anew(self, few, bert, spoil, kill_at_step, capsys):
        expected = fit(few, self.undisturbed, bert)
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert)
        (path,) = checkpoints().glob("*.pt")
        path.write_bytes(spoil(path.read_bytes()))
        capsys.readouterr()
        member = fit(few, self.settings, bert)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{path}: the checkpoint cannot be read (")
        assert line.endswith("); starting this training anew")
        assert_same_weights(weights(member), weights(expected))

    def test_a_checkpoint_that_lacks_something_is_corrupted(self, few, bert, kill_at_step, capsys):
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert)
        (path,) = checkpoints().glob("*.pt")
        torch.save({"step": 3}, path)
        fit(few, self.settings, bert)
        assert f"{path}: the checkpoint cannot be read (incomplete); starting" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: replace(s, seed=1),
            lambda s: replace(s, learning_rate=0.01),
            lambda s: replace(s, most_epochs=2),
            lambda s: replace(s, fine_tuning="full"),
        ],
        ids=["seed", "learning rate", "epochs", "mode"],
    )
    def test_other_settings_start_anew(self, few, bert, change, kill_at_step, capsys):
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert)
        fit(few, change(self.settings), bert)
        assert "resumed" not in capsys.readouterr().out

    @pytest.mark.parametrize("mode", ["frozen", "top"])
    @pytest.mark.parametrize("what", ["y", "words", "text_subjects", "text_numbers", "event_types", "event_categories"])
    def test_other_rows_start_anew(self, few, bert, mode, what, kill_at_step, capsys):
        settings = replace(self.settings, fine_tuning=mode)
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, settings, bert)
        sequences = few.sequences
        if what == "y":
            other = replace(few, y=1 - few.y)
        elif what == "words":
            swapped = [text.replace("broken", "lovely") for text in sequences.words]
            other = replace(few, sequences=replace(sequences, words=swapped))
        else:
            changed = getattr(sequences, what) + np.ones_like(getattr(sequences, what))
            if what == "text_subjects":
                changed %= CATEGORY_BUCKETS
            other = replace(few, sequences=replace(sequences, **{what: changed}))
        fit(other, settings, bert)
        assert "resumed" not in capsys.readouterr().out

    def test_another_frozen_encoder_starts_anew(self, few, bert, kill_at_step, tmp_path, capsys):
        from sentence_transformers import SentenceTransformer

        other = SentenceTransformer(bert.settings.name, device="cpu")
        with torch.no_grad():
            other[0].auto_model.embeddings.word_embeddings.weight.mul_(2)
        other.save(str(tmp_path / "other"))
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert, fine_tuned=False)
        fit(
            few, self.settings, Encoder(EncoderSettings(str(tmp_path / "other"), "cpu", fidelity=1.0)), fine_tuned=False
        )
        assert "resumed" not in capsys.readouterr().out

    def test_other_later_rows_start_anew(self, few, later, kill_at_step, capsys):
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, later=later.later)
        fit(few, self.settings, later=replace(later, y=1 - later.y).later)
        assert "resumed" not in capsys.readouterr().out

    def test_a_checkpoint_bears_the_name_of_what_is_trained(self, few, churn_home):
        fit(few, self.settings, title="Judging events 1 of 3")
        for folder in (checkpoints(), churn_home / "tensorboard"):
            assert [path.name.rpartition("-")[0] for path in folder.iterdir()] == ["judging-events-1-of-3"]

    def test_no_half_written_checkpoint_is_left_and_all_are_forgotten_at_the_end(self, few):
        fit(few, self.settings)
        assert [path.suffix for path in checkpoints().iterdir()] == [".pt"]
        forget_checkpoints()
        assert not checkpoints().exists()
        forget_checkpoints()


class TestStoppingEarly:
    def test_the_weights_that_were_best_on_later_rows_are_kept(self, earlier, later, bert, monkeypatch):
        losses, seen = iter([0.5, 0.4, 0.6, 0.7, 0.8, 0.9, 0.1]), []

        def say(model: ChurnTransformer, *rest: object) -> float:
            seen.append({name: w.numpy().copy() for name, w in model.state_dict().items()})
            return next(losses)

        monkeypatch.setattr(fine_tuning, "log_loss_at", say)
        member = fit(earlier, replace(SMALL, most_epochs=4, fine_tuning="full"), bert, later=later.later)
        # 7.5 steps an epoch, a look every 4 of them; stopped after four looks that were worse
        assert [point["step"] for point in member.history_.later] == [4, 8, 12, 16, 20, 24]
        assert member.history_.best_epochs == pytest.approx(8 * 32 / 240)
        assert not differ(seen[1], weights(member))
        assert differ(seen[5], weights(member))

    def test_looking_at_later_rows_does_not_change_what_is_learned(self, earlier, later, bert, monkeypatch):
        expected = fit(earlier, SMALL, bert)
        log_loss_at, looks = fine_tuning.log_loss_at, []

        def better_each_time(*arguments: object) -> float:
            looks.append(log_loss_at(*arguments))
            return 1 / len(looks)

        monkeypatch.setattr(fine_tuning, "log_loss_at", better_each_time)
        member = fit(earlier, SMALL, bert, later=later.later)
        assert len(looks) == 2
        assert_same_weights(weights(member), weights(expected), atol=0)

    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_the_loss_it_stops_on_is_that_of_its_answers(self, earlier, later, bert, mode):
        member = fit(earlier, replace(LONG, fine_tuning=mode, most_epochs=3), bert, later=later.later)
        best = min(point["log_loss"] for point in member.history_.later)
        logit = member.logit(*later.asked)
        at_true_level = logit + level_shift(logit, later.y.mean())
        assert log_loss(at_true_level, later.y) == pytest.approx(best, abs=1e-4)

    def test_later_rows_must_share_their_texts(self, few, later, bert):
        stranger = replace(later, sequences=replace(later.sequences, words=list(later.sequences.words)))
        with pytest.raises(ValueError, match="share their texts"):
            fit(few, SMALL, bert, later=stranger.later)


class TestTokens:
    @pytest.fixture
    def tokens(self, bert) -> Tokens:
        """Texts of 3, 5, 10 and 3 tokens, the first and last of which frame them; at most 8 are read."""
        texts = ["late", "late parcel again", "broken " * 40, "lovely"]
        return Tokens(texts, bert.tokenizer, replace(SMALL, tokens_per_text=8, tokens_per_customer=12))

    def test_a_text_is_cut_at_its_budget(self, tokens):
        assert tokens.lengths.tolist() == [3, 5, 8, 3]

    @pytest.mark.parametrize(
        ("texts", "kept"),
        [
            ([0, 1, 3, -1], [0, 1, 3, -1]),  # 3 + 5 + 3
            ([2, 0, 3, -1], [2, 0, -1, -1]),  # 8 + 3, then 3 too many
            ([1, 2, 0, -1], [1, -1, -1, -1]),  # 5, then 8 too many, and nothing older than that
            ([2, 2, -1, -1], [2, -1, -1, -1]),
            ([-1, -1, -1, -1], [-1, -1, -1, -1]),
        ],
    )
    def test_the_newest_texts_come_first(self, tokens, texts, kept):
        assert tokens.within_budget(np.array([texts])).tolist() == [kept]

    def test_tokens_left_out_by_chance_never_include_the_frame(self, tokens):
        first, last = tokens.ids[2][0], tokens.ids[2][-1]
        tokens.settings = replace(tokens.settings, token_dropout=0.9)
        batch = tokens.batch(np.array([2] * 50), np.random.default_rng(0))
        kept = batch["attention_mask"].sum(dim=1)
        assert (batch["input_ids"][:, 0] == first).all()
        assert all(ids[n - 1] == last for ids, n in zip(batch["input_ids"], kept, strict=True))
        assert kept.min() == 2
        assert kept.float().mean() < 5

    @pytest.mark.parametrize("name", ["bert", "distilbert"])
    def test_neither_batch_nor_runtime_changes_a_vector_much(self, few, trained, distilbert, name, monkeypatch):
        model = trained("full").model_
        if name == "distilbert":
            model = fit(few, replace(SMALL, fine_tuning="full"), distilbert).model_
        tokenizer = trained("full").tokenizer_ if name == "bert" else distilbert.tokenizer
        texts = ["late", "", "broken " * 50, "lovely parcel", "never again " * 5, "unheard of 😀"]
        tokens, numbers = Tokens(texts, tokenizer, SMALL), np.arange(len(texts))
        width = model.config.text_width
        runtime = TorchRuntime(TextVectors(model), "torch-float32")
        alone = np.vstack([encode_texts(runtime, tokens, numbers[i : i + 1], width) for i in numbers])
        for batch_tokens in (1, 100, 10_000):
            monkeypatch.setattr(fine_tuning, "BATCH_TOKENS", batch_tokens)
            np.testing.assert_allclose(encode_texts(runtime, tokens, numbers, width), alone, atol=1e-5)
        np.testing.assert_allclose(encode_texts(runtime, tokens, numbers[::-1], width)[::-1], alone, atol=1e-5)
        fast = encode_texts(OpenVINORuntime(traced(TextVectors(model)), "openvino-bfloat16"), tokens, numbers, width)
        cosines = np.sum(fast * alone, axis=1) / np.linalg.norm(fast, axis=1) / np.linalg.norm(alone, axis=1)
        assert cosines.min() > 0.999


class TestVectors:
    @pytest.fixture
    def read(self, monkeypatch, trained) -> list[int]:
        """How many texts were really read, call by call, after training."""
        counts: list[int] = []
        for mode in ("frozen", "full"):
            trained(mode)

        def spy_on(owner: object, name: str, position: int) -> None:
            original = getattr(owner, name)

            def count(*arguments: object) -> np.ndarray:
                counts.append(len(arguments[position]))
                return original(*arguments)

            monkeypatch.setattr(owner, name, count)

        spy_on(transformer, "encode_texts", 2)
        spy_on(Encoder, "encode", 1)
        return counts

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_each_text_is_read_once_and_kept_on_disk(self, trained, read, mode, tmp_path):
        member = trained(mode)
        one, two = make_sequences(["late parcel"], ["broken", "late parcel"]), make_sequences(["lovely", "broken"])
        X = pd.DataFrame({"x": [0.0, 0.0], "sometimes_null": np.nan})
        first = member.logit(X, one, np.zeros(2))
        assert read == [2]
        np.testing.assert_array_equal(member.logit(X, one, np.zeros(2)), first)
        assert read == [2]
        member.logit(X.iloc[:1], two, np.zeros(1))
        assert read == [2, 1]
        member.save(tmp_path)
        np.testing.assert_allclose(TransformerMember.load(tmp_path).logit(X, one, np.zeros(2)), first, atol=1e-6)
        assert read == [2, 1]

    def test_nothing_is_kept_if_asked_for(self, trained, read, churn_home):
        texts, X = make_sequences(["late parcel"]), pd.DataFrame({"x": [0.0], "sometimes_null": np.nan})
        member = trained("full")
        kept = member.logit(X, texts, np.zeros(1), keep=False)
        np.testing.assert_array_equal(member.logit(X, texts, np.zeros(1), keep=False), kept)
        assert read == [1, 1]
        assert not list(churn_home.rglob("*.parquet"))

    def test_vectors_of_two_networks_are_never_mixed(self, trained, read):
        texts, X = make_sequences(["late parcel"]), pd.DataFrame({"x": [0.0], "sometimes_null": np.nan})
        for mode in MODES:
            trained(mode).logit(X, texts, np.zeros(1))
        assert read == [1, 1, 1]
        assert len({trained(mode).revision for mode in MODES}) == 3


class TestContributions:
    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_they_and_the_tabular_answer_make_up_the_answer(self, trained, later, mode):
        parts = trained(mode).contributions(*later.asked)
        assert parts.shape == (len(later.y), len(PARTS))
        np.testing.assert_allclose(later.tabular + parts.sum(axis=1), trained(mode).logit(*later.asked), atol=1e-6)

    def test_words_that_decide_are_what_words_contribute(self, trained, later):
        words = trained("full").contributions(*later.asked)[:, PARTS.index("transformer_words")]
        texts = [later.sequences.words[i] if i >= 0 else "" for i in later.sequences.texts[:, 0]]
        said = {word: np.array([word in text for text in texts]) for word in ("broken", "lovely")}
        assert words[said["broken"]].mean() > 0.5
        assert words[said["lovely"]].mean() < -0.5
        assert not words[~later.sequences.wrote].any()

    def test_a_network_without_words_owes_nothing_to_them(self, few):
        member = fit(few, SMALL)
        assert not member.contributions(*few.asked)[:, PARTS.index("transformer_words")].any()

    def test_a_network_without_events_owes_nothing_to_them(self, few, bert):
        member = fit(few, replace(SMALL, event_layers=0), bert)
        assert not member.contributions(*few.asked)[:, PARTS.index("transformer_events")].any()


class TestSettings:
    def test_a_mode_that_does_not_exist_is_refused(self):
        with pytest.raises(ChurnRadarError) as refused:
            TransformerSettings(fine_tuning="sideways")
        assert str(refused.value) == "fine_tuning is sideways; expected one of frozen, top, lora, full"

    def test_a_loss_that_does_not_exist_is_refused(self):
        with pytest.raises(ChurnRadarError) as refused:
            TransformerSettings(loss="hinge")
        assert str(refused.value) == "loss is hinge; expected cross_entropy or focal"
