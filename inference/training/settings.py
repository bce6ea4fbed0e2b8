"""How a model is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from inference.model.transformer.settings import TransformerSettings


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    min_customers : int
        Training is refused with fewer labelled customers.
    min_customers_for_boosting : int
        With fewer, logistic regression is the only member.
    min_customers_for_transformer : int
        With fewer, the transformer is not tried.
    validation_snapshots : int
        Maximal number of snapshots in the rolling validation, the newest ones.
    transformer_snapshots : int
        Number of the newest of them that decide whether the transformer joins the average; the one before decides how
        long it trains.
    transformer : TransformerSettings or None
        How the transformer is trained; None leaves it out.
    trials : int
        Number of settings of the transformer that are tried on the snapshot that decides how long it trains.
    """

    min_customers: int = 50
    min_customers_for_boosting: int = 300
    min_customers_for_transformer: int = 1000
    validation_snapshots: int = 6
    transformer_snapshots: int = 3
    transformer: TransformerSettings | None = TransformerSettings()  # noqa: RUF009
    trials: int = 0

    @classmethod
    def from_vars(cls, transformer: bool, transformer_settings: Mapping[str, object], trials: int) -> Self:
        """Make settings of the dbt vars ``churn__transformer``, ``churn__transformer_settings`` and ``churn__trials``.

        Raises
        ------
        ChurnRadarError
            If a setting of the transformer does not exist or has a wrong value, even where the transformer is off.
        """
        settings = TransformerSettings.from_var(transformer_settings)
        return cls(transformer=settings if transformer else None, trials=trials)
