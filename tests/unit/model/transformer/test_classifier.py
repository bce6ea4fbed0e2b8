from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_network import LONG, MODES, SMALL, fit, log_loss, make_sequences, weights

from inference.model.transformer.member import PARTS, TransformerMember
from inference.model.transformer.network import ChurnTransformer, ChurnTransformerConfig


class TestBeginning:
    @pytest.mark.parametrize("encoder", [None, "bert", "distilbert"])
    @pytest.mark.parametrize("fine_tuned", [False, True])
    def test_a_network_that_learned_nothing_says_what_the_tabular_members_say(self, shop, encoder, fine_tuned, request):
        idle = replace(SMALL, learning_rate=0.0, encoder_learning_rate=0.0, max_epochs=0)
        reader = None if encoder is None else request.getfixturevalue(encoder)
        member = fit(shop, idle, reader, fine_tuned=fine_tuned and reader is not None)
        np.testing.assert_array_equal(member.logit(*shop.asked), shop.tabular.astype(np.float32))

    def test_words_that_join_a_trained_network_begin_at_the_tabular_answer(self, few, bert):
        events = fit(few, SMALL)
        assert np.abs(events.logit(*few.asked) - few.tabular).max() > 0.01
        idle = replace(SMALL, learning_rate=0.0, encoder_learning_rate=0.0, max_epochs=0)
        words = fit(few, idle, bert, start=events)
        np.testing.assert_array_equal(words.logit(*few.asked), few.tabular.astype(np.float32))
        own = weights(words)
        for name, weight in weights(events).items():
            if not name.startswith("churn_head"):
                np.testing.assert_array_equal(own[name], weight, err_msg=name)

    def test_fine_tuning_goes_on_from_the_answer_of_frozen_words(self, earlier, few, bert):
        events = fit(few, SMALL)
        words = fit(earlier, replace(LONG, fine_tuning="frozen"), bert, start=events)
        assert np.abs(words.logit(*few.asked) - few.tabular).max() > 0.01
        idle = replace(SMALL, learning_rate_fine_tuning=0.0, encoder_learning_rate=0.0, fine_tuning="full")
        tuned = fit(earlier, idle, bert, start=words)
        assert tuned.history_.steps[-1]["epoch"] == pytest.approx(idle.max_epochs_fine_tuning, abs=0.2)
        np.testing.assert_allclose(tuned.logit(*few.asked), words.logit(*few.asked), atol=2e-3)


class TestLoss:
    def answer(self, *churned: float, **shape: object) -> float:
        """Loss of a new network that gives everyone even odds."""
        model = ChurnTransformer(ChurnTransformerConfig(n_numbers=1, width=8, event_layers=0, **shape)).eval()
        n = len(churned)
        return float(model(torch.zeros(n), torch.zeros((n, 1)), churned=torch.tensor(churned)).loss.detach())

    def test_it_is_cross_entropy(self):
        assert self.answer(1.0, 0.0) == pytest.approx(np.log(2))

    def test_focal_loss_weighs_a_customer_by_the_square_of_the_error(self):
        assert self.answer(1.0, loss="focal") == pytest.approx(np.log(2) / 4)

    def test_the_weight_of_who_churned_counts_in_the_mean_too(self):
        # 3 log 2 + log 2 over 3 + 1
        assert self.answer(1.0, 0.0, positive_weight=3.0) == pytest.approx(np.log(2))


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
        logit = trained(mode).logit(later.X, silent, later.tabular)
        assert np.isfinite(logit).all()
        without = later.sequences.without_events().without_texts()
        np.testing.assert_allclose(trained(mode).logit(later.X, without, later.tabular), logit, atol=1e-6)

    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_it_trains_where_nobody_wrote(self, few, bert, mode):
        silent = replace(few, sequences=make_sequences(*[[] for _ in few.y]))
        member = fit(silent, replace(SMALL, fine_tuning=mode), bert)
        assert np.isfinite(member.logit(*silent.asked)).all()

    def test_it_trains_where_everyone_churned(self, few, bert):
        gone = replace(few, y=np.ones_like(few.y))
        member = fit(gone, SMALL, bert)
        assert np.isfinite(member.logit(*gone.asked)).all()

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
        few = replace(SMALL, max_rows=64, max_rows_with_words=32)
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


class TestContributions:
    @pytest.mark.parametrize("mode", ["frozen", "full"])
    def test_they_and_the_tabular_answer_make_up_the_answer(self, trained, later, mode):
        parts = trained(mode).contributions(*later.asked)
        assert parts.shape == (len(later.y), len(PARTS))
        np.testing.assert_allclose(later.tabular + parts.sum(axis=1), trained(mode).logit(*later.asked), atol=1e-6)

    def test_words_that_decide_are_what_words_contribute(self, trained, later):
        words = trained("full").contributions(*later.asked)[:, PARTS.index("transformer_words")]
        texts = [later.sequences.words[i] if i >= 0 else "" for i in later.sequences.texts[:, 0]]
        wrote = {word: np.array([word in text for text in texts]) for word in ("broken", "lovely")}
        assert words[wrote["broken"]].mean() > 0.5
        assert words[wrote["lovely"]].mean() < -0.5
        assert not words[~later.sequences.wrote].any()

    def test_a_network_without_words_owes_nothing_to_them(self, few):
        member = fit(few, SMALL)
        assert not member.contributions(*few.asked)[:, PARTS.index("transformer_words")].any()

    def test_a_network_without_events_owes_nothing_to_them(self, few, bert):
        member = fit(few, replace(SMALL, event_layers=0), bert)
        assert not member.contributions(*few.asked)[:, PARTS.index("transformer_events")].any()
