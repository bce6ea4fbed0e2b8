from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from inference.model.level import ASSUMED_ERROR, LevelHistory, anchored_level, choose_anchor, level_shift

START = pd.Timestamp("2023-01-01")


def by_date(values: dict[str, float]) -> pd.Series:
    return pd.Series(list(values.values()), index=pd.to_datetime(list(values)), dtype=float)


def make_history(
    rates: dict[str, float], horizon_days: int = 30, silent_shares: dict[str, float] | None = None
) -> LevelHistory:
    return LevelHistory(by_date(rates), horizon_days, by_date(silent_shares or {}))


def make_backtest(**columns: list) -> pd.DataFrame:
    silent = [None] * len(columns["churn_rate"])
    anchors = {name: columns.get(name, silent) for name in ("model", "latest_rate", "forecast", "last_year")}
    return pd.DataFrame({"churn_rate": columns["churn_rate"], **anchors}, dtype=float)


class TestLevelShift:
    def test_of_even_odds_by_hand(self) -> None:
        assert level_shift(np.zeros(3), 0.5) == pytest.approx(0)
        assert level_shift(np.zeros(3), 0.75) == pytest.approx(np.log(3))

    @given(st.lists(st.floats(-15, 15), min_size=1, max_size=50), st.floats(0.001, 0.999))
    def test_gives_the_mean_probability_asked_for(self, logits: list[float], level: float) -> None:
        logit = np.array(logits)
        assert expit(logit + level_shift(logit, level)).mean() == pytest.approx(level, abs=1e-9)

    @pytest.mark.parametrize(("asked", "given_"), [(0.0, 0.001), (1.0, 0.999)])
    def test_nobody_is_ever_certain(self, asked: float, given_: float) -> None:
        logit = np.array([-2.0, 0.0, 2.0])
        assert expit(logit + level_shift(logit, asked)).mean() == pytest.approx(given_)


class TestLevelHistory:
    history = make_history({"2024-01-01": 0.1, "2024-01-29": 0.2, "2024-02-26": 0.3})

    @pytest.mark.parametrize(
        ("as_of_date", "rate"),
        [
            ("2024-01-30", None),
            ("2024-01-31", 0.1),  # 30 days after 2024-01-01
            ("2024-02-27", 0.1),
            ("2024-02-28", 0.2),  # 30 days after 2024-01-29
            ("2030-01-01", 0.3),
        ],
    )
    def test_latest_rate_is_of_the_newest_window_that_had_closed(self, as_of_date: str, rate: float | None) -> None:
        assert self.history.latest_rate(pd.Timestamp(as_of_date)) == rate

    def test_order_of_snapshots_does_not_matter(self) -> None:
        shuffled = make_history({"2024-01-29": 0.2, "2024-02-26": 0.3, "2024-01-01": 0.1})
        assert shuffled.latest_rate(pd.Timestamp("2024-02-28")) == 0.2
        assert shuffled.last_year(pd.Timestamp("2025-02-25")) == pytest.approx(0.3)

    def test_last_year_lies_365_days_back(self) -> None:
        assert self.history.last_year(pd.Timestamp("2025-01-28")) == pytest.approx(0.2)  # 2024 is a leap year

    def test_last_year_is_interpolated_between_snapshots(self) -> None:
        # 2025-01-07 less 365 days is 2024-01-08: a quarter of the way from 01-01 to 01-29
        assert self.history.last_year(pd.Timestamp("2025-01-07")) == pytest.approx(0.125)

    def test_last_year_says_nothing_more_than_three_weeks_off(self) -> None:
        one = make_history({"2024-01-22": 0.4})
        assert one.last_year(pd.Timestamp("2024-12-31")) == pytest.approx(0.4)  # target 01-01, 21 days off
        assert one.last_year(pd.Timestamp("2024-12-30")) is None

    def test_last_year_waits_for_its_window_too(self) -> None:
        yearly = make_history({"2024-01-01": 0.4}, horizon_days=366)
        assert yearly.last_year(pd.Timestamp("2024-12-31")) is None

    # odds: a year ago 1/4, 1 and 1; this year 1/2, that is twice as high
    two_years: ClassVar = {"2023-01-01": 0.2, "2023-01-29": 0.5, "2023-03-01": 0.5, "2024-01-01": 1 / 3}

    def test_last_year_is_moved_by_the_change_since(self) -> None:
        history = make_history(self.two_years)
        # 2024-02-29 less 365 days is 2023-03-01: odds of 1, doubled
        assert history.last_year(pd.Timestamp("2024-02-29")) == pytest.approx(2 / 3)
        # before the window of 2024-01-01 has closed nobody knows of a change
        assert history.last_year(pd.Timestamp("2024-01-29")) == pytest.approx(0.5)

    def test_changes_are_averaged_in_log_odds(self) -> None:
        # the odds of 2024-01-29 are half of a year before: both changes cancel
        history = make_history(self.two_years | {"2024-01-29": 1 / 3})
        assert history.last_year(pd.Timestamp("2024-02-29")) == pytest.approx(0.5)

    def test_a_change_of_more_than_half_a_year_ago_is_forgotten(self) -> None:
        history = make_history(self.two_years | {"2023-07-02": 0.3})
        assert history.last_year(pd.Timestamp("2024-07-01")) == pytest.approx(2 * 3 / 7 / (1 + 2 * 3 / 7))
        assert history.last_year(pd.Timestamp("2024-07-02")) == pytest.approx(
            0.3, abs=0.001
        )  # 183 days after 2024-01-01

    def test_without_history_nothing_is_known(self) -> None:
        empty = make_history({})
        assert empty.latest_rate(START) is None
        assert empty.last_year(START) is None

    # the share of 2024-03-02 describes the window from 2024-02-01, whose odds of 1 are twice as high
    silent: ClassVar = {"2024-02-01": 0.2, "2024-03-02": 1 / 3, "2024-05-01": 0.5}

    def test_the_silent_tell_rates_that_have_no_label(self) -> None:
        history = make_history({"2024-02-01": 0.5, "2024-03-02": 0.5}, silent_shares=self.silent)
        known = history.known_rates(pd.Timestamp("2024-05-01"))
        assert [str(date.date()) for date in known.index] == ["2024-01-02", "2024-02-01", "2024-03-02", "2024-04-01"]
        np.testing.assert_allclose(known, [1 / 3, 0.5, 0.5, 2 / 3])
        assert history.latest_rate(pd.Timestamp("2024-05-01")) == 0.5  # observed ones alone
        np.testing.assert_allclose(history.known_rates(pd.Timestamp("2024-04-30")), [1 / 3, 0.5, 0.5])

    def test_no_estimate_stands_within_two_weeks_of_an_observed_rate(self) -> None:
        rates = {"2024-02-01": 0.5, "2024-03-02": 0.5}
        near = make_history(
            rates, silent_shares=self.silent | {"2024-02-18": 0.2}
        )  # describes 2024-01-19, 13 days before
        assert pd.Timestamp("2024-01-19") not in near.known_rates(pd.Timestamp("2024-05-01"))
        apart = make_history(rates, silent_shares=self.silent | {"2024-02-17": 0.2})
        assert pd.Timestamp("2024-01-18") in apart.known_rates(pd.Timestamp("2024-05-01"))

    @pytest.mark.parametrize(
        "silent",
        [
            {"2024-03-02": 0.0, "2024-05-01": 0.0},  # a horizon as long as the activity window: nobody can be silent
            {"2024-05-01": 0.5},  # no date at which both are known
        ],
    )
    def test_without_anything_to_compare_there_are_no_estimates(self, silent: dict[str, float]) -> None:
        history = make_history({"2024-02-01": 0.5, "2024-03-02": 0.5}, silent_shares=silent)
        assert history.known_rates(pd.Timestamp("2024-05-01")).tolist() == [0.5, 0.5]

    def test_last_year_may_rest_on_an_estimate(self) -> None:
        rates = {"2024-02-01": 0.5, "2024-03-02": 0.5}
        as_of_date = pd.Timestamp("2025-01-01")  # less 365 days: 2024-01-02
        assert make_history(rates).last_year(as_of_date) is None
        assert make_history(rates, silent_shares=self.silent).last_year(as_of_date) == pytest.approx(1 / 3)

    @given(
        days=st.lists(st.integers(0, 800), min_size=1, max_size=30, unique=True),
        horizon_days=st.integers(1, 120),
        now=st.integers(0, 900),
    )
    def test_a_window_that_has_not_closed_is_never_used(self, days: list[int], horizon_days: int, now: int) -> None:
        dates = START + pd.to_timedelta(days, unit="D")
        closed = np.array([day + horizon_days <= now for day in days])
        rates = np.linspace(0.1, 0.9, len(days))
        as_of_date = START + pd.Timedelta(days=now)
        past = dates <= as_of_date
        shares = pd.Series(rates[::-1] / 2, index=dates)
        honest = LevelHistory(pd.Series(rates[closed], index=dates[closed], dtype=float), horizon_days, shares[past])
        all_knowing = LevelHistory(
            pd.Series(np.where(closed, rates, 7.0), index=dates), horizon_days, shares.where(past, 0.9)
        )
        assert all_knowing.latest_rate(as_of_date) == honest.latest_rate(as_of_date)
        assert all_knowing.last_year(as_of_date) == honest.last_year(as_of_date)
        assert (honest.latest_rate(as_of_date) is not None) == closed.any()


@pytest.mark.parametrize(
    ("anchor", "level"), [("model", 0.3), ("forecast", 0.4), ("latest_rate", 0.1), ("last_year", None)]
)
def test_each_anchor_answers_from_its_own_source(anchor: str, level: float | None) -> None:
    history = make_history({"2024-01-01": 0.1})
    assert anchored_level(anchor, pd.Timestamp("2024-03-01"), history, 0.3, 0.4) == level


class TestChooseAnchor:
    def test_smallest_mean_absolute_error_wins(self) -> None:
        backtest = make_backtest(
            churn_rate=[0.20, 0.30, 0.40],
            model=[0.10, 0.40, 0.30],  # 0.10 off, in both directions
            latest_rate=[0.15, 0.25, 0.35],  # 0.05 off
            forecast=[0.26, 0.36, 0.46],  # 0.06 off
        )
        anchor, error = choose_anchor(backtest, ["model", "latest_rate", "forecast"])
        assert anchor == "latest_rate"
        assert error == pytest.approx(0.05)

    @pytest.mark.parametrize(
        ("off", "best"),
        [(0.9 * ASSUMED_ERROR / 2, "model"), (1.1 * ASSUMED_ERROR / 2, "last_year")],  # two of four assumed: half
    )
    def test_an_anchor_that_spoke_only_twice_is_taken_to_be_off_elsewhere(self, off: float, best: str) -> None:
        backtest = make_backtest(churn_rate=[0.2] * 4, model=[0.2 + off] * 4, last_year=[None, None, 0.2, 0.2])
        assert choose_anchor(backtest, ["model", "last_year"])[0] == best

    def test_an_anchor_that_never_spoke_may_win_where_all_others_are_far_off(self) -> None:
        backtest = make_backtest(churn_rate=[0.2] * 4, model=[0.2 + 1.1 * ASSUMED_ERROR] * 4)
        assert choose_anchor(backtest, ["model", "last_year"]) == ("last_year", None)

    def test_an_anchor_with_nothing_to_say_now_does_not_count(self) -> None:
        backtest = make_backtest(churn_rate=[0.2] * 4, model=[0.9] * 4)
        assert choose_anchor(backtest, ["model"])[0] == "model"

    def test_an_anchor_that_spoke_three_times_counts(self) -> None:
        backtest = make_backtest(
            churn_rate=[0.2, 0.2, 0.2, 0.2], model=[0.3, 0.3, 0.3, 0.3], last_year=[None, 0.2, 0.2, 0.2]
        )
        assert choose_anchor(backtest, ["model", "last_year"]) == ("last_year", 0)

    def test_anchors_are_compared_where_all_spoke(self) -> None:
        # last year spoke only when it was easy, and was worse than the model even then
        backtest = make_backtest(
            churn_rate=[0.2, 0.2, 0.2, 0.2], model=[0.9, 0.2, 0.2, 0.2], last_year=[None, 0.25, 0.25, 0.25]
        )
        anchor, error = choose_anchor(backtest, ["model", "last_year"])
        assert anchor == "model"
        assert error == pytest.approx(0.7 / 4)

    def test_one_snapshot_is_enough(self) -> None:
        backtest = make_backtest(churn_rate=[0.2], model=[0.4], forecast=[0.3])
        anchor, error = choose_anchor(backtest, ["model", "forecast"])
        assert anchor == "forecast"
        assert error == pytest.approx(0.1)
