import pandas as pd

from inference.features.snapshots import snapshots_to_build

SPINE = pd.DataFrame(
    {
        "customer_id": ["a", "b", "a", "a"],
        "as_of_date": pd.to_datetime(["2024-01-01", "2024-01-01", "2024-02-26", "2024-03-01"]),
        "is_newest": [False, False, False, True],
    }
)


def days(built: pd.DataFrame | None, lookback_days: int) -> list[str]:
    return sorted(
        row.customer_id + f" {row.as_of_date:%m-%d}"
        for row in snapshots_to_build(SPINE, built, lookback_days).itertuples()
    )


def test_a_table_that_is_not_there_needs_all():
    assert days(None, 3) == ["a 01-01", "a 02-26", "a 03-01", "b 01-01"]


def test_what_is_there_is_left_out_but_for_the_lookback_window():
    assert days(SPINE, 3) == ["a 03-01"]
    assert days(SPINE, 4) == ["a 02-26", "a 03-01"]
    assert days(SPINE.drop(index=1), 3) == ["a 03-01", "b 01-01"]


def test_dates_and_timestamps_are_the_same_days():
    assert days(SPINE.assign(as_of_date=SPINE.as_of_date.dt.date), 3) == ["a 03-01"]


def test_an_empty_spine_needs_nothing():
    assert snapshots_to_build(SPINE.head(0), SPINE, 3).empty
