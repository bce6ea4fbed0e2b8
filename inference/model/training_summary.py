"""Facts about the training of a model that are saved with it, for the registry, the report and the next training."""

from dataclasses import asdict, dataclass, field, fields
from typing import Self


@dataclass
class TransformerSummary:
    """How the transformer was selected and trained.

    Parameters
    ----------
    averaged : list of str
        Members of the average that was chosen.
    variant : str
        Input of the transformer that was chosen or came closest: ``events``, ``words`` or ``fine_tuned``.
    epochs : dict of str to float
        Passes over the rows, for each variant.
    gains : dict of str to dict
        Decrease of the log-loss in nats (``mean``, ``low``, ``high``): ``events``, of the average with the
        transformer on events alone against the tabular members; ``words``, of frozen text embeddings against that;
        ``words_against_shuffled``, of the same network against one that reads shuffled texts; ``fine_tuned``, of
        fine-tuning the encoder against frozen embeddings; ``kept``, of the chosen average against the tabular members.
    losses : dict of str to float
        Log-loss of each average that was compared.
    histories : list of dict
        Loss curves of each training, see ``inference.model.transformer.checkpoints.History``.
    settings : dict
        ``TransformerSettings`` by field.
    """

    averaged: list[str] = field(default_factory=list)
    variant: str = ""
    epochs: dict[str, float] = field(default_factory=dict)
    gains: dict[str, dict[str, float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    histories: list[dict] = field(default_factory=list)
    settings: dict = field(default_factory=dict)


@dataclass
class TrainingSummary:
    """Facts about a training; the fields are the keys of ``details`` in the model's ``config.json``.

    Parameters
    ----------
    training_rows, training_customers : int
        Number of rows and of different customers.
    first_snapshot, last_snapshot : str
        Oldest and newest as-of date of the training rows, ``YYYY-MM-DD``.
    level_error : float, optional
        Mean absolute error of the level anchor in the backtest, as a churn rate.
    member_log_losses : dict of str to float
        Log-loss of each average of tabular members that was compared.
    words_gain : dict, optional
        Decrease of the log-loss by text embeddings in the tabular members: ``mean``, ``low`` and ``high``.
    transformer : TransformerSummary, optional
        None where the transformer was not tried.
    seconds : dict of str to dict
        By member, the seconds to ``train`` on all rows.
    validation : dict of str to float
        Metrics on the validation snapshots; empty where there were none.
    validation_log_losses : dict of str to float
        Log-loss by validation snapshot.
    level_backtest : list of dict
        By validation snapshot, the churn rate and the forecast of every level anchor.
    """

    training_rows: int = 0
    training_customers: int = 0
    first_snapshot: str = ""
    last_snapshot: str = ""
    level_error: float | None = None
    member_log_losses: dict[str, float] = field(default_factory=dict)
    words_gain: dict[str, float] | None = None
    transformer: TransformerSummary | None = None
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    validation_log_losses: dict[str, float] = field(default_factory=dict)
    level_backtest: list[dict] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict) -> Self:
        """Read ``to_dict``; a key that an older version did not save gets its default, an unknown key is ignored."""
        known = _known(cls, saved)
        if known.get("transformer"):
            known["transformer"] = TransformerSummary(**_known(TransformerSummary, known["transformer"]))
        return cls(**known)


def _known(cls: type, saved: dict) -> dict:
    return {f.name: saved[f.name] for f in fields(cls) if f.name in saved}
