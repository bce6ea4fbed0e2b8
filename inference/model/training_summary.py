"""Facts about the training of a model that are saved with it, for the registry, the report and the next training."""

from dataclasses import dataclass, field, fields
from typing import Self


@dataclass
class TransformerSummary:
    """How the transformer was selected and trained."""

    averaged: list[str] = field(default_factory=list)  # members of the average that was chosen
    variant: str = ""  # that was chosen or came closest: events, words or fine_tuned
    epochs: dict[str, float] = field(default_factory=dict)  # passes over the rows, for each variant
    #: Decrease of the log-loss in nats (``mean``, ``low``, ``high``): ``events``, of the average with the transformer
    #: on events alone against the tabular members; ``words``, of frozen text embeddings against that;
    #: ``words_against_shuffled``, of the same network against one that reads shuffled texts; ``fine_tuned``, of
    #: fine-tuning the encoder against frozen embeddings; ``kept``, of the chosen average against the tabular members.
    gains: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)  # log-loss of each average that was compared
    #: Loss curves of each training, see ``inference.model.transformer.checkpoints.History``.
    histories: list[dict] = field(default_factory=list)
    settings: dict = field(default_factory=dict)  # TransformerSettings by field


@dataclass
class TrainingSummary:
    """Facts about a training; the fields are the keys of ``details`` in the model's ``config.json``."""

    training_rows: int = 0
    training_customers: int = 0
    first_snapshot: str = ""  # oldest as-of date of the training rows, YYYY-MM-DD
    last_snapshot: str = ""
    level_error: float | None = None  # mean absolute error of the level anchor in the backtest, as a churn rate
    member_log_losses: dict[str, float] = field(default_factory=dict)  # of each average of tabular members compared
    words_gain: dict[str, float] | None = None  # decrease of the log-loss by text embeddings: mean, low and high
    lexical_gain: dict[str, float] | None = None  # the same by single words
    transformer: TransformerSummary | None = None  # None where it was not tried
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)  # by member, to train on all rows
    validation: dict[str, float] = field(default_factory=dict)  # metrics on the validation snapshots, if any
    validation_log_losses: dict[str, float] = field(default_factory=dict)  # by validation snapshot
    #: By validation snapshot, the churn rate and the forecast of every level anchor.
    level_backtest: list[dict] = field(default_factory=list)

    @classmethod
    def from_dict(cls, saved: dict) -> Self:
        """Read saved fields; one that an older version did not save gets its default, an unknown one is ignored."""
        known = _known(cls, saved)
        if known.get("transformer"):
            known["transformer"] = TransformerSummary(**_known(TransformerSummary, known["transformer"]))
        return cls(**known)


def _known(cls: type, saved: dict) -> dict:
    return {f.name: saved[f.name] for f in fields(cls) if f.name in saved}
