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
    """How the transformer is built and trained.

    Parameters
    ----------
    width, event_layers : int
        Width of the towers, a multiple of ``EVENT_HEADS``; layers of the event tower.
    dropout : float
        Dropout of towers and head.
    learning_rate, encoder_learning_rate : float
        Peak learning rates of the new parts and of the text encoder.
    weight_decay : float
        Of AdamW.
    warm_up : float
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    batch_rows, accumulation : int
        Rows per batch, and batches per step (gradient accumulation).
    max_epochs : int
        Maximal number of passes over the rows; a later snapshot decides how many.
    max_epochs_fine_tuning : int
        The same for fine-tuning the encoder, which starts from a network that was trained on frozen embeddings.
    learning_rate_fine_tuning : float
        Peak learning rate of the new parts in fine-tuning.
    max_rows, max_rows_with_words : int
        Rows are sampled down to this number; the second where the encoder is fine-tuned, which takes the time.
    fine_tuning : str
        Which weights of the encoder are trained: ``frozen`` (none), ``top`` (its upper layers), ``lora`` or ``full``.
    top_layers : int
        Number of upper layers, for ``top``.
    tokens_per_text, tokens_per_customer : int
        Token budgets; the newest texts come first.
    token_dropout, text_dropout : float
        Augmentation: share of tokens, and of texts, that are left out at random.
    loss : str
        ``cross_entropy`` or ``focal``.
    positive_weight : float
        Weight of a customer who churned in the loss.
    seed : int
        The same rows, settings and seed give the same network on the same machine.
    checkpoint_seconds : float
        Time between two checkpoints of a training.

    Raises
    ------
    ChurnRadarError
        If a value has the wrong type or lies outside its range.
    """

    width: int = 48
    event_layers: int = 2
    dropout: float = 0.2
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warm_up: float = 0.1
    batch_rows: int = 128
    accumulation: int = 1
    max_epochs: int = 3
    max_epochs_fine_tuning: int = 1
    learning_rate_fine_tuning: float = 3e-4
    max_rows: int = 20_000
    max_rows_with_words: int = 10_000
    fine_tuning: str = "top"
    top_layers: int = 3
    tokens_per_text: int = 64
    tokens_per_customer: int = 96
    token_dropout: float = 0.1
    text_dropout: float = 0.1
    loss: str = "cross_entropy"
    positive_weight: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, expected = getattr(self, field.name), _expected(field.name, field.type)
            if not _is_valid(field.name, field.type, value):
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


def _is_valid(name: str, kind: object, value: Any) -> bool:
    if kind is str:
        return value in CHOICES[name]
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    if name == "width" and value % EVENT_HEADS:
        return False
    lowest, highest = (1 if name in POSITIVE else 0), (1 if name in SHARES else math.inf)
    return lowest <= value <= highest and math.isfinite(value)


def _expected(name: str, kind: object) -> str:
    if kind is str:
        return f"one of {', '.join(CHOICES[name])}"
    if name == "width":
        return f"a positive multiple of {EVENT_HEADS}"
    number = "a whole number" if kind is int else "a number"
    if name in SHARES:
        return f"{number} from 0 to 1"
    return f"{number}, {1 if name in POSITIVE else 0} or more"
