"""How a model is trained."""

from dataclasses import dataclass

from inference.model.transformer.settings import TransformerSettings


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    least_customers : int
        Fewer labelled customers than this are refused.
    least_customers_for_boosting : int
        Fewer labelled customers than this are left to logistic regression alone.
    least_customers_for_transformer : int
        Fewer labelled customers than this are not given to the transformer.
    validation_snapshots : int
        Most snapshots of the rolling validation, the newest ones.
    transformer_snapshots : int
        Newest of them on which the transformer must earn its place; the one before decides how long it trains.
    transformer : TransformerSettings or None
        How the transformer is trained; None leaves it out.
    trials : int
        How many settings of the transformer are tried on the snapshot that decides how long it trains.
    """

    least_customers: int = 50
    least_customers_for_boosting: int = 300
    least_customers_for_transformer: int = 1000
    validation_snapshots: int = 6
    transformer_snapshots: int = 3
    transformer: TransformerSettings | None = TransformerSettings()  # noqa: RUF009
    trials: int = 0
