from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.encoder import (
    DEFAULT_ENCODER,
    MOST_CHARACTERS,
    Encoder,
    EncoderSettings,
    choose_device,
    clean_text,
    token_batches,
)
from inference.errors import ChurnRadarError

LATE = "The parcel came three weeks late and nobody answered."
LATE_TOO = "Delivery took forever, no reply from support."
LOVELY = "Lovely colour, fits perfectly."


def make_tiny_encoder(folder: Path, dimension: int = 24, seed: int = 0) -> str:
    """Save an untrained encoder of another architecture and dimension; return its path."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    torch.manual_seed(seed)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "late",
        "parcel",
        "lovely",
        "broken",
        "fits",
        "perfectly",
        "never",
        "again",
        "the",
        "a",
    ]
    (folder / "bert").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    DistilBertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = DistilBertConfig(vocab_size=len(words), dim=dimension, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[transformer, Pooling(dimension)]).save(str(folder / "tiny"))
    return str(folder / "tiny")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(EncoderSettings(device="cpu"))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class TestEncoding:
    def test_what_means_the_same_lies_close(self, encoder):
        late, late_too, lovely = encoder.encode([LATE, LATE_TOO, LOVELY])
        assert cosine(late, late_too) > cosine(late, lovely) + 0.2

    def test_it_agrees_with_sentence_transformers_own_encode(self, encoder):
        texts = [LATE, LOVELY, "ok", LATE * 20]
        np.testing.assert_allclose(encoder.encode(texts), encoder._model.encode(texts), atol=1e-5)

    def test_an_embedding_does_not_depend_on_its_batch(self, encoder):
        texts = [LATE, LOVELY, "ok", "late " * 200, "", "broken " * 30]
        alone = np.vstack([encoder.encode([text]) for text in texts])
        np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], alone, atol=1e-5)

    def test_a_text_that_comes_twice_is_encoded_once(self, encoder, monkeypatch):
        seen = []
        encode = Encoder._encode_different

        def spy(self, texts):
            seen.extend(texts)
            return encode(self, texts)

        monkeypatch.setattr(Encoder, "_encode_different", spy)
        first, other, again = encoder.encode([LATE, LOVELY, f"  {LATE}\n"])
        assert seen == [LATE, LOVELY]
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ok",
            "😀😀😀",
            "<p>Hello <b>world</b></p>",
            "\x00\x01\xff\ufffd",
            "late 很晚 tarde 遅い",
            "word " * 20_000,
        ],
        ids=["empty", "one word", "emoji", "HTML", "binary", "mixed languages", "100,000 characters"],
    )
    def test_odd_texts_have_finite_embeddings(self, encoder, text):
        embedding = encoder.encode([text])
        assert embedding.shape == (1, 384)
        assert embedding.dtype == np.float32
        assert np.isfinite(embedding).all()

    def test_no_text_no_embedding(self, encoder):
        assert encoder.encode([]).shape == (0, 384)

    def test_bfloat16_passes_its_self_check_and_has_a_revision_of_its_own(self, encoder):
        reduced = Encoder(EncoderSettings(device="cpu", precision="bfloat16"))
        assert reduced.precision == "bfloat16"
        assert reduced.fidelity > 0.999
        assert reduced.revision != encoder.revision
        assert cosine(reduced.encode([LATE])[0], encoder.encode([LATE])[0]) > 0.999

    def test_a_precision_that_is_not_faithful_is_not_used(self, monkeypatch):
        monkeypatch.setattr("inference.encoder.LEAST_FIDELITY", 1.1)
        refused = Encoder(EncoderSettings(device="cpu", precision="bfloat16"))
        assert refused.precision == "float32"
        assert refused.encode(["ok"]).shape == (1, 384)


class TestLoading:
    def test_another_architecture_and_dimension_works_by_its_path_alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CHURN_ENCODER", make_tiny_encoder(tmp_path))
        tiny = Encoder()
        assert tiny.dimension == 24
        assert tiny.encode(["late parcel", "lovely"]).shape == (2, 24)

    def test_the_revision_follows_the_weights_not_the_path(self, tmp_path):
        one = Encoder(EncoderSettings(make_tiny_encoder(tmp_path / "a"), "cpu"))
        same = Encoder(EncoderSettings(make_tiny_encoder(tmp_path / "b"), "cpu"))
        other = Encoder(EncoderSettings(make_tiny_encoder(tmp_path / "c", seed=1), "cpu"))
        assert one.revision == same.revision
        assert one.revision != other.revision

    def test_a_folder_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(ChurnRadarError, match=r"CHURN_ENCODER is .*nowhere, but there is no such folder"):
            Encoder(EncoderSettings(str(tmp_path / "nowhere")))

    def test_a_folder_without_a_model_is_named(self, tmp_path):
        with pytest.raises(ChurnRadarError, match="no sentence-transformers model could be loaded"):
            Encoder(EncoderSettings(str(tmp_path)))

    def test_the_default_comes_with_the_package(self, monkeypatch):
        monkeypatch.delenv("CHURN_ENCODER", raising=False)
        assert EncoderSettings.from_environment().name == DEFAULT_ENCODER


class TestDevice:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_cuda_that_is_absent_is_refused(self):
        with pytest.raises(ChurnRadarError, match="CHURN_DEVICE is cuda, but there is no CUDA device"):
            choose_device("cuda")

    def test_an_unknown_device_is_refused(self):
        with pytest.raises(ChurnRadarError, match="CHURN_DEVICE is tpu; expected auto, cpu or cuda"):
            choose_device("tpu")

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_gives_the_embeddings_of_the_cpu(self, encoder):
        on_gpu = Encoder(EncoderSettings(device="cuda", precision="float32"))
        np.testing.assert_allclose(on_gpu.encode([LATE, LOVELY]), encoder.encode([LATE, LOVELY]), atol=1e-4)


class TestCleaning:
    def test_markup_control_characters_and_white_space_go(self):
        assert clean_text("<p>Late &amp; broken</p>\x00\n\n  twice") == "Late & broken twice"

    def test_a_sign_is_no_tag(self):
        assert clean_text("size < 40 and > 30") == "size < 40 and > 30"

    def test_endless_texts_are_cut(self):
        assert len(clean_text("ab " * 100_000)) <= MOST_CHARACTERS


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 2000))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    lengths = np.array(lengths)
    batches = list(token_batches(lengths, budget))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
