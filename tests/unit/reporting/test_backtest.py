from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from inference.errors import ChurnRadarError
from inference.reporting.backtest import rolling_dates, spend_in_horizon, truncate_raw


def write(folder: Path, name: str, **columns: list) -> None:
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame(columns)
    for column in frame:
        if column.endswith("_at"):
            frame[column] = pd.to_datetime(frame[column], format="ISO8601")
    frame.to_parquet(folder / f"{name}.parquet", index=False)


def test_rolling_dates_are_four_weeks_apart_oldest_first():
    assert rolling_dates(date(2017, 12, 1), 2) == [date(2017, 10, 6), date(2017, 11, 3), date(2017, 12, 1)]
    assert rolling_dates(date(2017, 12, 1), 0) == [date(2017, 12, 1)]


class TestTruncation:
    def test_rows_that_happened_or_arrived_later_are_left_out(self, tmp_path):
        write(
            tmp_path / "raw",
            "orders",
            order_id=["before", "on_the_day", "arrived_later", "last_second"],
            ordered_at=["2024-03-01", "2024-04-01", "2024-03-31", "2024-03-31 23:59:59"],
            loaded_at=["2024-03-01", "2024-04-01", "2024-04-02", None],
        )
        truncate_raw(tmp_path / "raw", tmp_path / "cut", date(2024, 4, 1))
        assert list(pd.read_parquet(tmp_path / "cut" / "orders.parquet").order_id) == ["before", "last_second"]

    def test_later_moments_of_earlier_rows_are_forgotten(self, tmp_path):
        write(tmp_path / "raw", "orders", order_id=["o"], ordered_at=["2024-03-01"])
        write(
            tmp_path / "raw",
            "campaign_touches",
            touch_id=["redeemed", "redeemed_later", "touched_later"],
            touched_at=["2024-03-01", "2024-03-01", "2024-04-02"],
            redeemed_at=["2024-03-09", "2024-04-09", "2024-04-09"],
        )
        truncate_raw(tmp_path / "raw", tmp_path / "cut", date(2024, 4, 1))
        touches = pd.read_parquet(tmp_path / "cut" / "campaign_touches.parquet").set_index("touch_id")
        assert list(touches.index) == ["redeemed", "redeemed_later"]
        assert touches.redeemed_at["redeemed"] == pd.Timestamp("2024-03-09")
        assert pd.isna(touches.redeemed_at["redeemed_later"])

    def test_without_orders_it_says_which_file_is_missing(self, tmp_path):
        with pytest.raises(ChurnRadarError, match=r"orders\.parquet: no such file"):
            truncate_raw(tmp_path, tmp_path / "cut", date(2024, 4, 1))


class TestSpendInHorizon:
    @pytest.fixture
    def orders(self, tmp_path) -> Path:
        write(
            tmp_path / "raw",
            "orders",
            customer_id=["before", "first_day", "first_day", "last_day", "end_day", "returned"],
            ordered_at=["2024-03-31", "2024-04-01", "2024-04-02", "2024-04-10 23:00", "2024-04-11", "2024-04-05"],
            amount=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            status=["completed", None, "Completed", "completed", "completed", "returned"],
        )
        return tmp_path / "raw" / "orders.parquet"

    def test_completed_orders_of_the_window_are_summed_by_customer(self, orders):
        assert spend_in_horizon(orders, date(2024, 4, 1), 10).to_dict() == {"first_day": 5.0, "last_day": 4.0}

    def test_a_window_that_was_not_observed_is_refused(self, orders):
        expected = "orders: the last order is of 2024-04-11; expected orders until 2024-04-12, 12 days after 2024-04-01"
        with pytest.raises(ChurnRadarError, match=expected):
            spend_in_horizon(orders, date(2024, 4, 1), 12)
