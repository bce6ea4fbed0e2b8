"""Print values from Feast as JSON: offline features of the newest snapshot, online features and online scores."""

import json

import numpy as np
import pandas as pd

from inference.feature_store.client import (
    MODEL_SERVICE,
    historical_features,
    online_features,
    online_scores,
    open_store,
)
from inference.home import published

scores = pd.read_parquet(published("churn_scores"))
newest = scores[scores.as_of_date == scores.as_of_date.max()].sort_values("customer_id", ignore_index=True)
offline = historical_features(newest[["customer_id", "as_of_date"]])
online = online_features(list(newest.customer_id), MODEL_SERVICE)
scored = online_scores(list(newest.customer_id))
store = open_store().config
answer = {
    name: table.to_dict("records") for name, table in {"online": online, "offline": offline, "scored": scored}.items()
}
answer["stores"] = [store.offline_store.type, store.online_store.type]
print(json.dumps(answer, default=lambda value: value.tolist() if isinstance(value, np.ndarray) else str(value)))
