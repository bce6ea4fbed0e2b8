"""How the transformer is built and trained."""

from dataclasses import dataclass

from inference.errors import ChurnRadarError
from inference.model.transformer.network import FINE_TUNING


@dataclass(frozen=True)
class TransformerSettings:
    """How the transformer is built and trained.

    Parameters
    ----------
    width, event_layers : int
        Width of the towers, layers of the event tower.
    dropout : float
        Dropout of towers and head.
    learning_rate, encoder_learning_rate : float
        Peak learning rates of the new parts and of the words' encoder.
    weight_decay : float
        AdamW's.
    warm_up : float
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    batch_rows, accumulation : int
        Rows per batch, and batches per step.
    most_epochs : int
        Most passes over the rows; how many is decided on a later snapshot.
    most_epochs_fine_tuning : int
        The same for an encoder that learns, which goes on from what the frozen one taught.
    learning_rate_fine_tuning : float
        Peak learning rate of the new parts then, as they have learned already.
    most_rows, most_rows_with_words : int
        Rows are sampled down to so many; reading words takes the time.
    fine_tuning : str
        What of the encoder learns: ``frozen`` (nothing), ``top`` (its upper layers), ``lora`` or ``full``.
    top_layers : int
        How many upper layers, for ``top``.
    tokens_per_text, tokens_per_customer : int
        Budgets; the newest texts come first.
    token_dropout, text_dropout : float
        Augmentation: share of tokens, and of texts, that are left out at random.
    loss : str
        ``cross_entropy`` or ``focal``.
    positive_weight : float
        Weight of a customer who churned.
    seed : int
        The same rows, settings and seed give the same network on the same machine.
    checkpoint_seconds : float
        At most so much work is lost when training is killed.
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
    most_epochs: int = 3
    most_epochs_fine_tuning: int = 1
    learning_rate_fine_tuning: float = 3e-4
    most_rows: int = 20_000
    most_rows_with_words: int = 10_000
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
        if self.fine_tuning not in FINE_TUNING:
            raise ChurnRadarError(f"fine_tuning is {self.fine_tuning}; expected one of {', '.join(FINE_TUNING)}")
        if self.loss not in ("cross_entropy", "focal"):
            raise ChurnRadarError(f"loss is {self.loss}; expected cross_entropy or focal")
