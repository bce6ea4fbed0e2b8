from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_network import MODES, SMALL, fit, make_sequences

from inference.model.transformer import member as transformer
from inference.model.transformer.batches import Tokens
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.network import TextVectors
from inference.model.transformer.training_loop import encode_texts
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.openvino_runtime import OpenVINORuntime, traced
from inference.text.encoder.torch_runtime import TorchRuntime


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
        kept = batch["attention_mask"].sum(axis=1)
        assert (batch["input_ids"][:, 0] == first).all()
        assert all(ids[n - 1] == last for ids, n in zip(batch["input_ids"], kept, strict=True))
        assert kept.min() == 2
        assert kept.mean() < 5

    @pytest.mark.parametrize("name", ["bert", "distilbert"])
    def test_neither_batch_nor_runtime_changes_a_vector_much(self, few, trained, distilbert, name):
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
            runtime.batch_tokens = batch_tokens
            np.testing.assert_allclose(encode_texts(runtime, tokens, numbers, width), alone, atol=1e-5)
        np.testing.assert_allclose(encode_texts(runtime, tokens, numbers[::-1], width)[::-1], alone, atol=1e-5)
        fast = encode_texts(OpenVINORuntime(traced(TextVectors(model)), "openvino-bfloat16"), tokens, numbers, width)
        assert cosines(fast, alone).min() > 0.999

    @pytest.mark.parametrize("runtime", ["torch-bfloat16", "openvino-bfloat16"])
    def test_it_reads_as_the_encoder_of_its_home_proved_to(self, few, trained, runtime, monkeypatch, tmp_path):
        member = copy(trained("full"))
        exact = member.text_vectors(few.sequences, keep=False)
        monkeypatch.setattr(transformer, "_runtime_name", lambda: runtime)
        del member.runtime
        read = member.text_vectors(few.sequences, keep=False)
        assert member.runtime.name == runtime
        there = np.any(exact != 0, axis=1)
        assert there.sum() > 10
        assert cosines(read[there], exact[there]).min() > 0.999
        member.save(tmp_path)  # with whatever attention it read by
        loaded = TransformerMember.load(tmp_path)
        np.testing.assert_array_equal(loaded.text_vectors(few.sequences, keep=False), read)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


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
