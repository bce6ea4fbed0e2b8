import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoder import LATE, LATE_TOO, LOVELY, make_tiny_encoder

from inference.errors import ChurnRadarError
from inference.home import GRAPHS, home
from inference.text.cleaning import MAX_CHARACTERS, clean_text
from inference.text.encoder import openvino_runtime, runtimes
from inference.text.encoder import settings as encoder_settings
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.loading import sample_texts
from inference.text.encoder.runtimes import token_batches
from inference.text.encoder.settings import DEFAULT_ENCODER, EncoderSettings, choose_device
from inference.text.encoder.tokenizer import TextTokenizer, make_tokenizer

PROBES = sample_texts()[1][:8]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(EncoderSettings(device="cpu", runtime="torch-float32"))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class TestEncoding:
    def test_texts_of_similar_meaning_have_similar_embeddings(self, encoder):
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
        embed = runtimes.embed_texts

        def spy(runtime, texts, *others):
            seen.extend(texts)
            return embed(runtime, texts, *others)

        monkeypatch.setattr(runtimes, "embed_texts", spy)
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


def mean_cosine(encoder: Encoder, exact: Encoder) -> float:
    texts = [*PROBES, LATE, LOVELY, LATE * 20]
    return float(np.mean([cosine(a, b) for a, b in zip(encoder.encode(texts), exact.encode(texts), strict=True)]))


class TestRuntimes:
    @pytest.mark.parametrize(
        ("name", "min_cosine"),
        [
            ("torch-bfloat16", 0.999),
            ("openvino-float32", 0.999999),
            ("openvino-bfloat16", 0.9999),
        ],
    )
    def test_each_gives_similar_embeddings_and_has_its_own_revision(self, encoder, name, min_cosine):
        other = Encoder(EncoderSettings(device="cpu", runtime=name))
        assert other.runtime == name
        assert other.revision != encoder.revision
        assert mean_cosine(other, encoder) > min_cosine
        texts = [LATE, LOVELY, "ok", "late " * 200, ""]
        alone = np.vstack([other.encode([text]) for text in texts])
        np.testing.assert_allclose(other.encode(texts), alone, atol=1e-5 if "float32" in name else 0.02)

    def test_integers_are_calibrated_once_and_faithful(self, encoder, monkeypatch):
        settings = EncoderSettings(device="cpu", runtime="openvino-int8", fidelity=0.99)
        first = Encoder(settings)
        assert mean_cosine(first, encoder) > 0.99
        monkeypatch.setattr(openvino_runtime, "quantised", None)  # not called again: the graph was saved
        again = Encoder(settings)
        assert again.revision == first.revision
        np.testing.assert_allclose(again.encode([LATE, LOVELY]), first.encode([LATE, LOVELY]), atol=1e-6)

    def test_concurrent_threads_get_their_own_vectors(self):
        shared = Encoder(EncoderSettings(device="cpu", runtime="openvino-bfloat16"))
        lists = [[f"{text} {number}" for text in (LATE, LOVELY, "ok") * 5] for number in range(8)]
        expected = [shared.encode(texts) for texts in lists]
        with ThreadPoolExecutor(4) as threads:
            for _ in range(3):
                for vectors, alone in zip(threads.map(shared.encode, lists), expected, strict=True):
                    np.testing.assert_allclose(vectors, alone, atol=0.02)

    def test_openvino_sends_no_telemetry(self, tmp_path):
        code = (
            "from inference.text.encoder.encoder import Encoder\n"
            "from inference.text.encoder.settings import EncoderSettings\n"
            "Encoder(EncoderSettings(device='cpu', runtime='openvino-int8')).load()\n"
            "from openvino_telemetry import Telemetry\n"
            "print(Telemetry().consent)"
        )
        environment = {**os.environ, "CI": "false", "HOME": str(tmp_path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_a_saved_graph_encodes_without_torch(self):
        texts = [LATE, LOVELY, "ok", "late " * 200, "", "价格涨了，质量却变差了。"]
        code = (
            "import sys, json\n"
            "from inference.text.encoder.encoder import Encoder\n"
            "from inference.text.encoder.settings import EncoderSettings\n"
            "encoder = Encoder(EncoderSettings(device='cpu', runtime='openvino-bfloat16'))\n"
            "vectors = encoder.encode(json.loads(sys.argv[1]))\n"
            "absent = not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)\n"
            "print(json.dumps([absent, encoder.revision, encoder.dimension, vectors.tolist()]))"
        )
        command = [sys.executable, "-c", code, json.dumps(texts)]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
        (_, *first, vectors), (absent, *again, vectors_again) = (json.loads(run.stdout) for run in runs)
        assert absent
        assert first == again
        np.testing.assert_allclose(vectors_again, vectors, atol=0.02)

    @pytest.mark.parametrize("kind", ["xml", "json"])
    def test_a_damaged_file_is_written_again(self, encoder, kind):
        settings = EncoderSettings(device="cpu", runtime="openvino-float32")
        first = Encoder(settings)
        file = home() / GRAPHS / f"{first.revision}.{kind}"
        file.write_text("<net>")
        again = Encoder(settings)
        assert again.revision == first.revision
        assert mean_cosine(again, encoder) > 0.999999
        assert file.stat().st_size > 1000

    def test_the_fastest_faithful_one_is_chosen_once_per_home(self, encoder, monkeypatch):
        chosen = Encoder(EncoderSettings(device="cpu"))
        assert mean_cosine(chosen, encoder) >= 0.9999
        monkeypatch.setattr(runtimes, "choose", None)  # not called again
        again = Encoder(EncoderSettings(device="cpu"))
        again.load()
        assert again.runtime == chosen.runtime

    def test_a_fast_but_unfaithful_one_is_not_chosen(self):
        seconds = {"exact": 0.03, "wrong": 0.0, "fast": 0.01, "slow": 0.05}
        angle = {"exact": 0.0, "wrong": 0.5, "fast": 0.001, "slow": 0.0}

        def probe(runtime):
            time.sleep(seconds[runtime])
            return np.array([[np.cos(angle[runtime]), np.sin(angle[runtime])]])

        def make(name):
            if name == "impossible":
                raise RuntimeError("no such operation")
            return name

        assert runtimes.choose(["exact", "impossible", "wrong", "fast", "slow"], make, probe, 0.9999) == "fast"

    def test_full_fidelity_means_float32(self, monkeypatch):
        monkeypatch.setenv("CHURN_ENCODER_FIDELITY", "1")
        monkeypatch.setenv("CHURN_DEVICE", "cpu")
        assert Encoder().runtime == "torch-float32"

    def test_without_openvino_torch_is_used(self, monkeypatch):
        monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
        assert runtimes.available("cpu", 0.9999) == ["torch-float32", "torch-bfloat16"]

    def test_integers_are_compared_only_if_they_can_be_faithful_enough(self):
        assert "openvino-int8" not in runtimes.available("cpu", 0.9999)
        assert "openvino-int8" in runtimes.available("cpu", 0.995)

    @pytest.mark.parametrize("fidelity", ["1.5", "high"])
    def test_an_impossible_fidelity_is_refused(self, monkeypatch, fidelity):
        monkeypatch.setenv("CHURN_ENCODER_FIDELITY", fidelity)
        with pytest.raises(ChurnRadarError, match=f"FIDELITY is {fidelity}; expected a cosine from 0 to 1"):
            EncoderSettings.from_environment()

    def test_an_unknown_runtime_is_refused(self):
        with pytest.raises(ChurnRadarError, match="encoder runtime is tpu; expected auto or one of torch-float32"):
            Encoder(EncoderSettings(device="cpu", runtime="tpu")).load()


def not_in_rust(tokenizer):
    """A tokenizer of transformers that gives the same ids, as one that is written in Python."""
    fields = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    return type("Tokenizer", (), {"__call__": lambda self, *args, **named: tokenizer(*args, **named), **fields})()


class TestTokenising:
    TEXTS = (*PROBES, "", "😀😀😀", "word " * 1000, "Ünïcödé straße", "[SEP] [CLS] [PAD]", "a\u0301")

    def test_token_ids_are_those_of_transformers(self, encoder):
        plain = encoder._model.tokenizer
        limit = encoder._model.max_seq_length
        ids = make_tokenizer(plain, limit).tokenise(self.TEXTS)
        assert ids == make_tokenizer(not_in_rust(plain), limit).tokenise(self.TEXTS)

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_batches_are_padded_alike(self, encoder, side, monkeypatch):
        plain = encoder._model.tokenizer
        monkeypatch.setattr(plain, "padding_side", side)
        fast = TextTokenizer.from_json(make_tokenizer(plain, 16).json)
        ids = fast.tokenise(self.TEXTS)
        expected = plain.pad({"input_ids": ids}, return_tensors="np")
        for tokenizer in (fast, make_tokenizer(not_in_rust(plain), 16)):
            for name, values in tokenizer.pad(ids).items():
                np.testing.assert_array_equal(values, expected[name])


class TestLoading:
    def test_another_architecture_and_dimension_works_by_its_path_alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CHURN_ENCODER", make_tiny_encoder(tmp_path))
        tiny = Encoder()
        assert tiny.dimension == 24
        assert tiny.encode(["late parcel", "lovely"]).shape == (2, 24)

    def test_the_revision_follows_the_weights_not_the_path(self, tmp_path):
        folders = (make_tiny_encoder(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
        one, same, other = (Encoder(EncoderSettings(folder, "cpu", "torch-float32")) for folder in folders)
        assert one.revision == same.revision
        assert one.revision != other.revision

    def test_a_folder_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(ChurnRadarError, match=r"CHURN_ENCODER is .*nowhere, but there is no such folder"):
            Encoder(EncoderSettings(str(tmp_path / "nowhere"))).load()

    def test_a_folder_without_a_model_is_named(self, tmp_path):
        with pytest.raises(ChurnRadarError, match="no sentence-transformers model could be loaded"):
            Encoder(EncoderSettings(str(tmp_path))).load()

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

    def test_cudnn_attention_is_disabled_with_cuda(self, monkeypatch):
        was = torch.backends.cuda.cudnn_sdp_enabled()
        monkeypatch.setattr(encoder_settings, "_has_cuda", lambda: True)
        torch.backends.cuda.enable_cudnn_sdp(True)
        try:
            assert choose_device("auto") == "cuda"
            assert not torch.backends.cuda.cudnn_sdp_enabled()
        finally:
            torch.backends.cuda.enable_cudnn_sdp(was)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_gives_the_embeddings_of_the_cpu(self, encoder):
        on_gpu = Encoder(EncoderSettings(device="cuda", runtime="torch-float32"))
        np.testing.assert_allclose(on_gpu.encode([LATE, LOVELY]), encoder.encode([LATE, LOVELY]), atol=1e-4)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_uses_bfloat16_if_faithful(self, encoder):
        on_gpu = Encoder(EncoderSettings(device="cuda", fidelity=0.999))
        assert on_gpu.runtime in ("torch-float32", "torch-bfloat16")
        assert mean_cosine(on_gpu, encoder) > 0.999


class TestCleaning:
    def test_markup_control_characters_and_white_space_go(self):
        assert clean_text("<p>Late &amp; broken</p>\x00\n\n  twice") == "Late & broken twice"
        assert clean_text("bad &lt;script src=x&gt;alert(1)&lt;/script&gt; 3 &lt; 4") == "bad alert(1) 3 < 4"

    def test_a_less_than_sign_is_not_a_tag(self):
        assert clean_text("size < 40 and > 30") == "size < 40 and > 30"

    def test_endless_texts_are_cut(self):
        assert len(clean_text("ab " * 100_000)) <= MAX_CHARACTERS


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 2000))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    lengths = np.array(lengths)
    batches = list(token_batches(lengths, budget))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
