"""Past contacts that effects are learned from."""

from datetime import date

import numpy as np
import pandas as pd

from inference.decisions.experiment import randomised


def test_only_random_contacts_with_known_outcomes_are_kept():
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
                "this week",
            ],
            "touched_at": pd.Timestamp("2024-03-04"),
            "propensity": [0.5, 1.0, 1.5, np.nan, 0.0, 0.5, 0.5, 0.5, 0.5],
            "is_active": [True] * 5 + [False, True, True, True],
            "churned": [1.0] * 6 + [np.nan, 1.0, 1.0],
            "as_of_date": [pd.Timestamp("2024-03-01")] * 7 + [pd.NaT, pd.Timestamp("2024-03-01")],
            "window_ends_on": [pd.Timestamp("2024-04-01")] * 8 + [pd.Timestamp("2024-04-02")],
        }
    )
    for day in ("2024-04-02", "2024-04-07"):  # from Tuesday to Sunday
        assert randomised(outcomes, date.fromisoformat(day)).touch_id.tolist() == ["known"]
    assert randomised(outcomes, date(2024, 4, 8)).touch_id.tolist() == ["known", "this week"]
    assert randomised(outcomes, date(2024, 3, 31)).empty
