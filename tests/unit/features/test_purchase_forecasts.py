import duckdb
import numpy as np
import pandas as pd
import pytest

from inference.features.mbg_nbd import MBGNBD
from inference.features.purchase_forecasts import forecast_purchases
from inference.features.snapshots import date_filter

#: Customer, as-of date, first and last order, days with an order, in the snapshot, in the sample to fit on.
HISTORIES = [
    ("steady", "2024-03-01", "2024-01-01", "2024-02-28", 9, True, True),
    ("slow", "2024-03-01", "2024-01-11", "2024-02-10", 2, True, True),
    ("once", "2024-03-01", "2024-02-20", "2024-02-20", 1, True, True),
    ("unsampled", "2024-03-01", "2024-02-01", "2024-02-21", 3, True, False),
    ("gone", "2024-03-01", "2024-01-01", "2024-01-01", 1, False, True),
    ("steady", "2024-04-01", "2024-01-01", "2024-03-30", 12, True, True),
    ("once", "2024-04-01", "2024-02-20", "2024-02-20", 1, True, True),
]


def make_histories(rows: list[tuple] = HISTORIES) -> pd.DataFrame:
    columns = [
        "customer_id",
        "as_of_date",
        "first_order_date",
        "last_order_date",
        "order_days",
        "is_snapshot",
        "is_forecast_sample",
    ]
    table = pd.DataFrame(rows, columns=columns)
    dates = ["as_of_date", "first_order_date", "last_order_date"]
    table[dates] = table[dates].apply(pd.to_datetime)
    return table


def by_customer(forecasts: pd.DataFrame, as_of_date: str) -> pd.DataFrame:
    return forecasts[forecasts.as_of_date == pd.Timestamp(as_of_date)].set_index("customer_id").sort_index()


def test_every_customer_of_every_snapshot_gets_one_forecast() -> None:
    forecasts = forecast_purchases(make_histories(), 30)
    assert sorted(zip(forecasts.customer_id, forecasts.as_of_date.astype(str), strict=True)) == [
        ("once", "2024-03-01"),
        ("once", "2024-04-01"),
        ("slow", "2024-03-01"),
        ("steady", "2024-03-01"),
        ("steady", "2024-04-01"),
        ("unsampled", "2024-03-01"),
    ]
    assert list(forecasts.columns) == [
        "customer_id",
        "as_of_date",
        "no_order_probability",
        "alive_logit",
        "expected_orders",
        "rate_shape",
        "rate_scale",
        "leave_a",
        "leave_b",
    ]


def test_forecasts_are_finite_doubles() -> None:
    figures = forecast_purchases(make_histories(), 30)[["no_order_probability", "alive_logit", "expected_orders"]]
    assert (figures.dtypes == np.float64).all()
    assert np.isfinite(figures.to_numpy()).all()


def test_repeats_recency_and_age_are_counted_in_days_from_the_first_order() -> None:
    # the sample of 2024-03-01 (2024 is a leap year): steady, slow, once, gone
    model = MBGNBD.fit(np.array([8, 1, 0, 0]), np.array([58, 30, 0, 0]), np.array([60, 50, 10, 60]))
    march = by_customer(forecast_purchases(make_histories(), 30), "2024-03-01")
    assert march.no_order_probability["slow"] == pytest.approx(
        model.no_order_probability(np.array([1]), np.array([30]), np.array([50]), 30)[0]
    )
    assert march.no_order_probability["unsampled"] == pytest.approx(
        model.no_order_probability(np.array([2]), np.array([20]), np.array([29]), 30)[0]
    )


def test_a_snapshot_is_forecast_from_what_was_known_at_it_alone() -> None:
    changed = [row if row[1] == "2024-03-01" else (*row[:4], 40, *row[5:]) for row in HISTORIES]
    before = by_customer(forecast_purchases(make_histories(), 30), "2024-03-01")
    after = by_customer(forecast_purchases(make_histories(changed), 30), "2024-03-01")
    pd.testing.assert_frame_equal(before, after)


def test_only_the_sample_is_learned_from() -> None:
    changed = [(*row[:4], 20, *row[5:]) if row[0] == "unsampled" else row for row in HISTORIES]
    before = by_customer(forecast_purchases(make_histories(), 30), "2024-03-01").drop("unsampled")
    after = by_customer(forecast_purchases(make_histories(changed), 30), "2024-03-01").drop("unsampled")
    pd.testing.assert_frame_equal(before, after)


def test_without_a_sample_the_snapshot_is_learned_from() -> None:
    unsampled = [(*row[:6], False) for row in HISTORIES]
    forecasts = forecast_purchases(make_histories(unsampled), 30)
    assert len(forecasts) == 6
    assert forecasts.no_order_probability.between(0, 1).all()


def test_the_order_of_rows_does_not_matter() -> None:
    forwards = forecast_purchases(make_histories(), 30)
    backwards = forecast_purchases(make_histories(HISTORIES[::-1]), 30)
    for date in ("2024-03-01", "2024-04-01"):
        pd.testing.assert_frame_equal(by_customer(forwards, date), by_customer(backwards, date))


def test_each_date_is_forecast_alone() -> None:
    histories = make_histories()
    wanted = pd.DataFrame({"customer_id": ["once"], "as_of_date": pd.to_datetime(["2024-04-01"])})
    some = forecast_purchases(duckdb.from_df(histories).filter(date_filter(wanted)).df(), 30)
    assert set(some.as_of_date.astype(str)) == {"2024-04-01"}
    every = forecast_purchases(histories, 30)
    pd.testing.assert_frame_equal(by_customer(some, "2024-04-01"), by_customer(every, "2024-04-01"))
