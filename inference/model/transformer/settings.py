"""How the transformer is built and trained, and the dbt var that changes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Self

from inference.errors import ChurnRadarError

VAR = "churn__transformer_settings"
#: Values of the settings that are words.
CHOICES = {"fine_tuning": ("frozen", "top", "lora", "full"), "loss": ("cross_entropy", "focal")}
#: Heads of the event tower; the width is divided among them.
EVENT_HEADS = 4
#: Settings that may not be zero, and settings that are shares.
POSITIVE = ("width", "batch_rows", "accumulation", "top_layers", "tokens_per_text", "tokens_per_customer")
SHARES = ("dropout", "warm_up", "token_dropout", "text_dropout")


@dataclass(frozen=True)
class TransformerSettings:
    """How the transformer is built and trained; a value of a wrong type or outside its range is a ChurnRadarError."""

    width: int = 48  # of the towers, a multiple of EVENT_HEADS
    event_layers: int = 2  # of the event tower
    dropout: float = 0.2  # of towers and head
    learning_rate: float = 1e-3  # peak, of the new parts
    encoder_learning_rate: float = 5e-5  # peak, of the text encoder
    weight_decay: float = 0.01  # of AdamW
    warm_up: float = 0.1  # share of the steps in which the learning rate rises; then it falls along a cosine
    batch_rows: int = 128
    accumulation: int = 1  # batches per step (gradient accumulation)
    max_epochs: int = 3  # passes over the rows; a later snapshot decides how many
    max_epochs_fine_tuning: int = 1  # the same for the encoder, after a network was trained on frozen embeddings
    learning_rate_fine_tuning: float = 3e-4  # peak, of the new parts while the encoder is fine-tuned
    max_rows: int = 20_000  # rows are sampled down to this number
    max_rows_with_words: int = 10_000  # the same while the encoder is fine-tuned, which takes the time
    fine_tuning: str = "top"  # trained weights of the encoder: frozen (none), top (its upper layers), lora or full
    top_layers: int = 3  # number of upper layers, for top
    tokens_per_text: int = 64
    tokens_per_customer: int = 96  # the newest texts come first
    token_dropout: float = 0.1  # share of tokens that are left out at random, as augmentation
    text_dropout: float = 0.1  # the same of texts
    loss: str = "cross_entropy"  # or focal
    positive_weight: float = 1.0  # weight of a customer who churned in the loss
    seed: int = 0  # the same rows, settings and seed give the same network on the same machine
    checkpoint_seconds: float = 60.0  # time between two checkpoints of a training

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if expected := _expected_instead(field.name, field.type, value):
                raise ChurnRadarError(f"{VAR}: {field.name} is {value}; expected {expected}")

    @classmethod
    def from_var(cls, given: Mapping[str, Any]) -> Self:
        """Defaults, changed by the dbt var; an unknown name is refused with the nearest one that exists."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = get_close_matches(str(name), known, n=1, cutoff=0)[0]
                raise ChurnRadarError(f"{VAR}: {name} does not exist; did you mean {near}?")
        return cls(**given)

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Self:
        """Read the settings of a saved network; older versions wrote ``most_`` where it is ``max_`` now."""
        renamed = {name.replace("most_", "max_"): value for name, value in saved.items()}
        return cls(**{field.name: renamed[field.name] for field in fields(cls) if field.name in renamed})


def _expected_instead(name: str, kind: object, value: Any) -> str | None:
    """What a setting must be, in words; None where the value is that."""
    if kind is str:
        return None if value in CHOICES[name] else f"one of {', '.join(CHOICES[name])}"
    lowest, highest = (1 if name in POSITIVE else 0), (1 if name in SHARES else math.inf)
    is_number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    valid = is_number and lowest <= value <= highest and math.isfinite(value)
    if name == "width":
        return None if valid and value % EVENT_HEADS == 0 else f"a positive multiple of {EVENT_HEADS}"
    number = "a whole number" if kind is int else "a number"
    return None if valid else number + (" from 0 to 1" if name in SHARES else f", {lowest} or more")
