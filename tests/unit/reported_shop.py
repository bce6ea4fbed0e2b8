"""A shop with known churn probabilities and its champion, for tests of the report."""

import numpy as np
import pandas as pd
from builders import make_fixed_model
from scipy.special import logit

from inference.registry.registry import RegisteredModel

LABELS = ["customer_id", "as_of_date", "churned", "horizon_spend"]


def make_shop(n_snapshots: int = 4, first: str = "2024-01-01") -> pd.DataFrame:
    """100 customers at snapshots four weeks apart, of whom the first 50 churn four times of five, the others once.

    ``signal`` is the log-odds of 0.8 for the first 50 and of 0.2 for the others, the best possible prediction.
    """
    one = np.arange(100)
    risky, fifth = one < 50, one % 5 == 4
    snapshot = pd.DataFrame(
        {
            "customer_id": [f"c{i:03}" for i in one],
            "churned": np.where(risky, ~fifth, fifth).astype(float),
            "signal": logit(np.where(risky, 0.8, 0.2)),
            "days_since_first_order": np.where(one < 50, 30, 300),
            "days_since_last_order": 20,
            "orders_total": np.select([one < 10, (one >= 25) & (one < 75)], [7, 1], 3),
            "spend_90d": np.where(one < 30, 100.0, 5.0),
            "no_order_probability": 0.5,
        }
    )
    dates = pd.date_range(first, periods=n_snapshots, freq="28D")
    rows = pd.concat([snapshot.assign(as_of_date=date) for date in dates], ignore_index=True)
    return rows.assign(horizon_spend=1 - rows.churned)


def make_champion(rows: pd.DataFrame, **details: object) -> RegisteredModel:
    """A champion that was validated on the third and the fourth snapshot."""
    about = {"training_rows": len(rows), "training_customers": 100, "seconds": {"logistic": {"train": 1}}}
    model = make_fixed_model(**about, **details)
    dates = sorted(rows.as_of_date.unique())[2:4]
    validated = rows[rows.as_of_date.isin(dates)]
    model.validation = pd.DataFrame(
        {
            "customer_id": validated.customer_id,
            "as_of_date": validated.as_of_date,
            "churned": validated.churned.astype(int),
            "no_order_probability": 0.5,
            "logistic": validated.signal,
            "probability": np.where(validated.signal > 0, 0.8, 0.2),
        }
    ).reset_index(drop=True)
    return RegisteredModel("3", model)
