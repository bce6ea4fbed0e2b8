"""How a model is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from inference.model.transformer.settings import TransformerSettings


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained."""

    min_customers: int = 50  # training is refused with fewer labelled customers
    min_customers_for_transformer: int = 1000  # with fewer, the transformer is not tried
    validation_snapshots: int = 6  # maximal number of snapshots in the rolling validation, the newest ones
    #: Number of the newest of them that decide whether the transformer joins the average; the one before decides how
    #: long it trains, and between the settings that are tried.
    transformer_snapshots: int = 3
    transformer: TransformerSettings | None = TransformerSettings()  # noqa: RUF009  # None leaves it out
    trials: int = 0  # number of settings of the transformer that are tried

    @classmethod
    def from_vars(cls, transformer: bool, transformer_settings: Mapping[str, object], trials: int) -> Self:
        """Make settings of the dbt vars ``churn__transformer``, ``churn__transformer_settings`` and ``churn__trials``.

        A setting of the transformer that does not exist or has a wrong value is refused, even where it is off.
        """
        settings = TransformerSettings.from_var(transformer_settings)
        return cls(transformer=settings if transformer else None, trials=trials)
