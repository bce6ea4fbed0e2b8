from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_network import LONG, MODES, SMALL, assert_same_weights, differ, fit, log_loss, weights

from inference.model.level import level_shift
from inference.model.sequences import CATEGORY_BUCKETS
from inference.model.transformer import training_loop as fine_tuning
from inference.model.transformer.checkpoints import checkpoints, forget_checkpoints
from inference.model.transformer.network import ChurnTransformer
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings


@pytest.fixture(autouse=True)
def log_everything(caplog):
    caplog.set_level("INFO")


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
    def test_killed_and_resumed_is_as_if_nothing_had_happened(self, earlier, bert, mode, kill_at_step, caplog):
        expected = fit(earlier, replace(self.undisturbed, fine_tuning=mode), bert)
        settings = replace(self.settings, fine_tuning=mode)
        for step in (4, 3):  # the second time it dies three steps after it was resumed
            kill_at_step(step)
            with pytest.raises(Killed):
                fit(earlier, settings, bert)
        member = fit(earlier, settings, bert)
        out = caplog.text
        assert out.count("resumed after step 3\n") == 1
        assert out.count("resumed after step 5\n") == 1
        assert_same_weights(weights(member), weights(expected))
        np.testing.assert_allclose(member.logit(*earlier.asked), expected.logit(*earlier.asked), atol=1e-5)

    @pytest.mark.parametrize("look", [1, 2])
    def test_killed_while_later_rows_are_looked_at(self, earlier, later, bert, look, monkeypatch, caplog):
        expected = fit(earlier, self.undisturbed, bert, later=later.data)
        log_loss_at = fine_tuning.log_loss_at
        looks = []

        def die(*arguments: object) -> float:
            looks.append(1)
            if len(looks) == look:
                raise Killed
            return log_loss_at(*arguments)

        monkeypatch.setattr(fine_tuning, "log_loss_at", die)
        with pytest.raises(Killed):
            fit(earlier, self.settings, bert, later=later.data)
        member = fit(earlier, self.settings, bert, later=later.data)
        assert "resumed after step" in caplog.text
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
    def test_a_corrupted_checkpoint_is_reported_and_training_starts_anew(self, few, bert, spoil, kill_at_step, caplog):
        expected = fit(few, self.undisturbed, bert)
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert)
        (path,) = checkpoints().glob("*.pt")
        path.write_bytes(spoil(path.read_bytes()))
        caplog.clear()
        member = fit(few, self.settings, bert)
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(f"{path}: the checkpoint cannot be read (")
        assert line.endswith("); this training starts from the beginning")
        assert_same_weights(weights(member), weights(expected))

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: replace(s, seed=1),
            lambda s: replace(s, learning_rate=0.01),
            lambda s: replace(s, max_epochs=2),
            lambda s: replace(s, fine_tuning="full"),
        ],
        ids=["seed", "learning rate", "epochs", "mode"],
    )
    def test_other_settings_start_anew(self, few, bert, change, kill_at_step, caplog):
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, bert)
        fit(few, change(self.settings), bert)
        assert "resumed" not in caplog.text

    @pytest.mark.parametrize("mode", ["frozen", "top"])
    @pytest.mark.parametrize("what", ["y", "words", "text_subjects", "text_numbers", "event_types", "event_categories"])
    def test_other_rows_start_anew(self, few, bert, mode, what, kill_at_step, caplog):
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
        assert "resumed" not in caplog.text

    def test_another_frozen_encoder_starts_anew(self, few, bert, kill_at_step, tmp_path, caplog):
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
        assert "resumed" not in caplog.text

    def test_other_later_rows_start_anew(self, few, later, kill_at_step, caplog):
        kill_at_step(2)
        with pytest.raises(Killed):
            fit(few, self.settings, later=later.data)
        fit(few, self.settings, later=replace(later, y=1 - later.y).data)
        assert "resumed" not in caplog.text

    def test_a_training_has_the_same_checkpoint_whatever_its_caption(self, few):
        fit(few, self.settings, title="Judging events 1 of 3")
        fit(few, self.settings, title="Training events")
        assert len(list(checkpoints().iterdir())) == 1

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
        member = fit(earlier, replace(SMALL, max_epochs=4, fine_tuning="full"), bert, later=later.data)
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
        member = fit(earlier, SMALL, bert, later=later.data)
        assert len(looks) == 2
        assert_same_weights(weights(member), weights(expected), atol=0)

    @pytest.mark.parametrize("mode", ["frozen", *MODES])
    def test_the_loss_it_stops_on_is_that_of_its_answers(self, earlier, later, bert, mode):
        member = fit(earlier, replace(LONG, fine_tuning=mode, max_epochs=3), bert, later=later.data)
        best = min(point["log_loss"] for point in member.history_.later)
        logit = member.logit(*later.asked)
        at_true_level = logit + level_shift(logit, later.y.mean())
        assert log_loss(at_true_level, later.y) == pytest.approx(best, abs=1e-4)

    def test_later_rows_must_share_their_texts(self, few, later, bert):
        stranger = replace(later, sequences=replace(later.sequences, words=list(later.sequences.words)))
        with pytest.raises(ValueError, match="share their texts"):
            fit(few, SMALL, bert, later=stranger.data)
