"""Which contacts effects are learned from."""

import numpy as np
import pandas as pd

from inference.retention import _known


def test_only_random_contacts_with_customers_whose_outcome_is_known_teach():
    outcomes = pd.DataFrame(
        {
            "touch_id": [
                "known",
                "certain",
                "impossible",
                "not logged",
                "never",
                "no customer",
                "not over",
                "no features",
            ],
            "touched_at": pd.Timestamp("2024-03-04"),
            "propensity": [0.5, 1.0, 1.5, np.nan, 0.0, 0.5, 0.5, 0.5],
            "is_active": [True] * 5 + [False, True, True],
            "churned": [1.0] * 6 + [np.nan, 1.0],
            "as_of_date": [pd.Timestamp("2024-03-01")] * 7 + [pd.NaT],
        }
    )
    assert _known(outcomes).touch_id.tolist() == ["known"]
