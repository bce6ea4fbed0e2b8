"""The dbt var churn__transformer_settings: what is refused, and each value from training to a loaded member."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from small_network import SMALL, Shop, fit

from inference.errors import ChurnRadarError
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import CHOICES, TransformerSettings
from inference.text.encoder.encoder import Encoder
from inference.training.settings import TrainingSettings

#: A value other than that of ``SMALL`` for each setting; every choice of those that are words.
VALUES = [
    *((name, choice) for name, choices in CHOICES.items() for choice in choices),
    *(("width", 8), ("event_layers", 2), ("event_layers", 0), ("dropout", 0), ("learning_rate", 1e-3)),
    *(("encoder_learning_rate", 1e-4), ("weight_decay", 0.1), ("warm_up", 0.5), ("batch_rows", 16)),
    *(("accumulation", 2), ("max_epochs", 2), ("max_epochs_fine_tuning", 2), ("learning_rate_fine_tuning", 1e-3)),
    *(("max_rows", 32), ("max_rows_with_words", 32), ("top_layers", 2), ("tokens_per_text", 8)),
    *(("tokens_per_customer", 4), ("token_dropout", 0.5), ("text_dropout", 0.5), ("positive_weight", 3)),
    *(("seed", 7), ("checkpoint_seconds", 0)),
]


def test_every_setting_is_tried() -> None:
    assert {name for name, _ in VALUES} == set(asdict(SMALL))


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_each_value_trains_a_network_that_is_saved_and_loaded(
    few: Shop, bert: Encoder, tmp_path: Path, name: str, value: float | str
) -> None:
    settings = TransformerSettings.from_var(asdict(SMALL) | {name: value})
    assert getattr(settings, name) == value
    events = fit(few, settings)
    words = fit(few, settings, bert, fine_tuned=False, start=events)
    member = fit(few, settings, bert, start=words)
    assert member.fine_tuned == (settings.fine_tuning != "frozen")
    member.save(tmp_path)
    loaded = TransformerMember.load(tmp_path)
    assert loaded.settings == settings
    logit = member.logit(*few.asked)
    assert np.abs(logit - few.tabular).max() > 1e-4
    np.testing.assert_allclose(loaded.logit(*few.asked), logit, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"fine_tuning": "sideways"}, "fine_tuning is sideways; expected one of frozen, top, lora, full"),
        ({"loss": "hinge"}, "loss is hinge; expected one of cross_entropy, focal"),
        ({"fine_tunning": "lora"}, "fine_tunning does not exist; did you mean fine_tuning?"),
        ({"batch_size": 64}, "batch_size does not exist; did you mean batch_rows?"),
        ({1: 2}, "1 does not exist; did you mean "),
        ({"width": 30}, "width is 30; expected a positive multiple of 4"),
        ({"width": 0}, "width is 0; expected a positive multiple of 4"),
        ({"batch_rows": 12.5}, "batch_rows is 12.5; expected a whole number, 1 or more"),
        ({"batch_rows": True}, "batch_rows is True; expected a whole number, 1 or more"),
        ({"max_epochs": -1}, "max_epochs is -1; expected a whole number, 0 or more"),
        ({"dropout": 1.5}, "dropout is 1.5; expected a number from 0 to 1"),
        ({"learning_rate": "fast"}, "learning_rate is fast; expected a number, 0 or more"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a number, 0 or more"),
        ({"loss": ["focal"]}, "loss is ['focal']; expected one of cross_entropy, focal"),
    ],
)
def test_what_does_not_exist_or_has_a_wrong_value_is_refused_in_one_line(given: dict, problem: str) -> None:
    with pytest.raises(ChurnRadarError) as refused:
        TransformerSettings.from_var(given)
    assert str(refused.value).startswith(f"churn__transformer_settings: {problem}")
    assert "\n" not in str(refused.value)


def test_the_var_is_checked_even_where_the_transformer_is_off() -> None:
    assert TrainingSettings.from_vars(False, {}, 2) == TrainingSettings(transformer=None, trials=2)
    changed = TrainingSettings.from_vars(True, {"loss": "focal"}, 0).transformer
    assert changed == TransformerSettings(loss="focal")
    with pytest.raises(ChurnRadarError, match="did you mean loss"):
        TrainingSettings.from_vars(False, {"los": "focal"}, 0)


def test_settings_of_an_older_version_are_read() -> None:
    saved = {"most_epochs": 5, "most_rows_with_words": 7, "width": 16, "forgotten": 1}
    assert TransformerSettings.from_saved(saved) == TransformerSettings(max_epochs=5, max_rows_with_words=7, width=16)
