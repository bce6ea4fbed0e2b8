"""The table ``online_shop``: what the last build knows of the shop as a whole."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Self

import numpy as np
import pandas as pd

from inference.features.mbg_nbd import MBGNBD
from inference.realtime.features import ShopFacts
from inference.realtime.history import CustomerRows
from inference.realtime.sequences import SequenceShape


@dataclass(frozen=True)
class OnlineShop:
    """The row of ``online_shop``."""

    #: The newest snapshot, and the champion that scored it.
    as_of: date
    model_version: str
    #: Log-odds added to the mean of the members.
    level_shift: float
    #: The purchase model fitted at the snapshot.
    forecast: MBGNBD
    facts: ShopFacts
    shape: SequenceShape
    #: Percentiles 0 to 100 of the churn probabilities of the snapshot, shape (101,).
    percentiles: np.ndarray
    #: Lower limits of all risk bands but the lowest, ascending.
    bands: tuple[float, ...]
    #: The dbt vars of these names: who counts as a customer.
    activity_days: int
    min_orders: int
    #: Encoder of the build's texts; None where the shop has none.
    encoder_revision: str | None
    #: The seed ``aspect_descriptions``.
    aspects: pd.DataFrame
    #: Whether the store's keys are pseudonyms.
    pseudonymise: bool
    #: Position in the event log of the newest event that the build has read.
    through: int

    @classmethod
    def unpack(cls, facts: str) -> Self:
        """Read the column ``facts`` of ``online_shop``, a JSON object."""
        row = json.loads(facts)
        same = ("model_version", "level_shift", "activity_days", "min_orders", "encoder_revision", "pseudonymise")
        return cls(
            as_of=date.fromisoformat(row["as_of"]),
            forecast=MBGNBD(**row["forecast"]),
            facts=ShopFacts(
                horizon_days=row["horizon_days"],
                history_days=row["history_days"],
                complaint_from=row["complaint_from"],
                tables=frozenset(row["tables"]),
                unrecorded=frozenset(row.get("unrecorded", ())),
                first_date=date.fromisoformat(row["first_date"]),
                event_types=tuple(row["event_types"]),
                aspects=tuple(row["aspects"]),
            ),
            shape=SequenceShape(row["sequence_days"], row["history_days"], row["most_events"], row["most_texts"]),
            percentiles=np.array(row["percentiles"]),
            bands=tuple(row["bands"]),
            aspects=pd.DataFrame(row["aspect_descriptions"]),
            through=row["through"],
            **{name: row[name] for name in same},
        )

    def is_customer(self, rows: CustomerRows, as_of: date) -> bool:
        """Whether somebody is scored at a midnight, by the rule of ``int_customer_snapshots``."""
        _, last, _, orders = rows.order_dates(as_of)
        return orders >= self.min_orders and last is not None and last >= as_of - timedelta(days=self.activity_days)
