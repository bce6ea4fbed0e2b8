"""Print what Feast answers of a shop, as JSON: features of the newest snapshot offline, features and scores online."""

import json

import numpy as np
import pandas as pd

from inference.feature_store import client as feature_store
from inference.home import published

scores = pd.read_parquet(published("churn_scores"))
newest = scores[scores.as_of_date == scores.as_of_date.max()].sort_values("customer_id", ignore_index=True)
offline = feature_store.historical_features(newest[["customer_id", "as_of_date"]])
online = feature_store.online_features(list(newest.customer_id), feature_store.MODEL_SERVICE)
told = feature_store.online_scores(list(newest.customer_id))
store = feature_store.open_store().config
answer = {
    name: table.to_dict("records") for name, table in {"online": online, "offline": offline, "told": told}.items()
}
answer["stores"] = [store.offline_store.type, store.online_store.type]
print(json.dumps(answer, default=lambda value: value.tolist() if isinstance(value, np.ndarray) else str(value)))
