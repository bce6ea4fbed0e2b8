"""Compare every feature view online with offline, and both with the files, for the newest snapshot's customers.

Usage: compare_online_offline.py N_CUSTOMERS. Prints JSON: what was compared and every difference.
"""

import json
import sys

import numpy as np
import pandas as pd

from inference.feature_store.client import (
    MODEL_SERVICE,
    SEQUENCES_SERVICE,
    historical_features,
    online_features,
    open_store,
    snapshot_features,
)
from inference.features import time_features
from inference.home import published

SERVICES = ("churn_model_v1", "churn_scores_v1")


def differences(offline: pd.Series, online: pd.Series) -> int:
    """Count rows that differ: exactly for integers and strings, by more than 1e-9 for floats."""
    if offline.map(np.ndim).any() or online.map(np.ndim).any():
        vectors = zip(offline, online, strict=True)
        return sum(not np.array_equal(_vector(a), _vector(b)) for a, b in vectors)
    unknown = offline.isna() & online.isna()
    if pd.api.types.is_float_dtype(offline) and not (offline.dropna() % 1 == 0).all():
        same = (offline - pd.to_numeric(online)).abs() <= 1e-9
    elif pd.api.types.is_numeric_dtype(offline):
        same = offline == pd.to_numeric(online)
    else:
        same = offline == online
    return int((~(same | unknown)).sum())


def _vector(value: object) -> np.ndarray:
    return np.zeros(0, np.float32) if value is None else np.asarray(value, dtype=np.float32)


def main(n_customers: int) -> None:
    """Print the comparison."""
    scores = pd.read_parquet(published("churn_scores"))
    newest = scores[scores.as_of_date == scores.as_of_date.max()]
    rows = newest[["customer_id", "as_of_date"]].sort_values("customer_id").head(n_customers)
    # online, time is counted to now
    time_features._now = lambda: pd.Timestamp(rows.as_of_date.max())
    store = open_store()
    views, different, compared = set(), [], 0
    for service in SERVICES:
        offline = historical_features(rows, service).set_index("customer_id")
        online = online_features(list(rows.customer_id), service).set_index("customer_id").loc[offline.index]
        views |= {p.name for p in store.get_feature_service(service).feature_view_projections}
        for column in online.columns:
            compared += 1
            if count := differences(offline[column], online[column]):
                different.append({"feature": column, "rows": count})
    # a build reads what Feast would answer
    both = MODEL_SERVICE, SEQUENCES_SERVICE
    pd.testing.assert_frame_equal(snapshot_features(rows, *both), historical_features(rows, *both), check_exact=True)
    print(
        json.dumps(
            {
                "customers": len(rows),
                "feature_views": len(views),
                "features": compared,
                "different": different,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
