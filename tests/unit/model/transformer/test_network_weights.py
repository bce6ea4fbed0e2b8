import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_network import MODES, SMALL, assert_same_weights, differ, fit, weights

from inference.model.transformer.member import TransformerMember
from inference.model.transformer.network import ChurnTransformer
from inference.text.encoder.encoder import Encoder


class Planted:
    """A pickle that makes a file where it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return self.file.touch, ()


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
        assert loaded.settings == member.settings

    def test_a_member_without_words_is_loaded_as_well(self, few, tmp_path):
        member = fit(few, SMALL)
        member.save(tmp_path)
        loaded = TransformerMember.load(tmp_path)
        assert not loaded.reads_words
        np.testing.assert_allclose(loaded.logit(*few.asked), member.logit(*few.asked), atol=1e-6)

    def test_a_member_of_the_version_that_predicted_spend_as_well_is_loaded(self, few, tmp_path, caplog):
        member = fit(few, SMALL)
        member.save(tmp_path)
        folder = tmp_path / "transformer"
        head = {"spend_head.weight": torch.ones(1, SMALL.width), "spend_head.bias": torch.ones(1)}
        weights = load_file(folder / "model.safetensors") | head
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        for name, more in (("config.json", {"spend_weight": 0.1}), ("member.json", {"spend_mean": 25.0})):
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | more))
        loaded = TransformerMember.load(tmp_path)
        np.testing.assert_allclose(loaded.logit(*few.asked), member.logit(*few.asked), atol=1e-6)
        assert "spend" not in caplog.text

    def test_code_planted_beside_a_saved_member_is_not_run(self, trained, later, tmp_path):
        """As a model of the Hugging Face Hub may have code, which transformers runs where it is trusted."""
        member = trained("full")
        member.save(tmp_path)
        folder, planted = tmp_path / "transformer", tmp_path / "planted"
        code = f"open({str(planted)!r}, 'w')\n\nclass Planted:\n    def __init__(self, *args, **kwargs): ...\n"
        (folder / "planted.py").write_text(code)
        auto = {"auto_map": dict.fromkeys(("AutoConfig", "AutoModel"), "planted.Planted")}
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | auto | {"encoder": config["encoder"] | auto}))
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        words = {"auto_map": {"AutoTokenizer": ["planted.Planted", "planted.Planted"]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | words))
        loaded = TransformerMember.load(tmp_path)
        np.testing.assert_allclose(loaded.logit(*later.asked), member.logit(*later.asked), atol=1e-6)
        assert not planted.exists()

    def test_pickled_weights_are_not_read(self, few, tmp_path):
        fit(few, SMALL).save(tmp_path)
        folder, planted = tmp_path / "transformer", tmp_path / "planted"
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(planted)))
        with pytest.raises(OSError, match=r"model\.safetensors"):
            TransformerMember.load(tmp_path)
        assert not planted.exists()

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
