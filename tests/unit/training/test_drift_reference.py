from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from builders import FEATURES, make_model, make_rows
from hypothesis import given
from hypothesis import strategies as st

from inference.evaluation.drift import bin_shares, population_stability
from inference.registry import registry
from inference.training.drift_reference import SCHEMA, SCORE, drift_reference, new_references

NAN = float("nan")
numbers = st.lists(st.one_of(st.just(NAN), st.integers(-3, 12), st.floats(-1e6, 1e6)), min_size=1, max_size=60)


def shares(values: Sequence[float]) -> dict[tuple, float]:
    """Shares that are not empty, by the ends of their bins."""
    bins = bin_shares(np.array(values, dtype=float))
    known = {
        (row.above, row.up_to): row.share for row in bins[~bins.is_missing].fillna(np.inf).itertuples() if row.share
    }
    return known | {"missing": float(bins.share[bins.is_missing].iloc[0])}


class TestBins:
    def test_a_feature_of_many_values_has_tenths(self) -> None:
        bins = bin_shares(np.arange(1, 101, dtype=float))
        np.testing.assert_allclose(bins.share, [0, *[0.1] * 10])
        assert list(bins.up_to[1:-1]) == [10, 20, 30, 40, 50, 60, 70, 80, 90]
        assert list(bins.above[2:]) == [10, 20, 30, 40, 50, 60, 70, 80, 90]

    def test_first_and_last_are_open_and_the_unknown_have_no_ends(self) -> None:
        bins = bin_shares(np.array([1.0, 2.0, NAN, NAN]))
        assert bins.is_missing.tolist() == [True] + [False] * (len(bins) - 1)
        assert bins.share[0] == 0.5
        assert bins[["above", "up_to"]].isna().sum().tolist() == [2, 2]

    def test_each_of_few_values_has_a_bin_alone(self) -> None:
        below = np.nextafter([0, 1, 3], -np.inf)
        assert shares([0, 0, 1, 3]) == {(below[0], 0): 0.5, (below[1], 1): 0.25, (below[2], 3): 0.25, "missing": 0}

    @pytest.mark.parametrize("moved", [4.0, 6.0, NAN])
    def test_a_constant_that_moves_drifts_either_way(self, moved: float) -> None:
        assert population_stability(bin_shares(np.full(9, 5.0)), np.full(9, 5.0)) == 0
        assert population_stability(bin_shares(np.full(9, 5.0)), np.full(9, moved)) > 10

    def test_a_value_that_many_have_does_not_hide_the_others(self) -> None:
        # nine tenths at the top: all tenths end there
        values = np.array([1.0] * 90 + list(np.linspace(0, 0.9, 10)))
        assert bin_shares(values).share.max() == 0.9
        assert population_stability(bin_shares(values), values * 0.5) > 1

    def test_what_is_unknown_throughout_is_one_bin(self) -> None:
        bins = bin_shares(np.array([NAN, NAN]))
        assert bins.share.tolist() == [1, 0]
        assert population_stability(bins, np.array([NAN])) == 0
        assert population_stability(bins, np.array([1.0])) > 10

    @given(numbers)
    def test_shares_sum_to_one_and_nothing_drifts_from_itself(self, values: list[float]) -> None:
        values = np.array(values, dtype=float)
        bins = bin_shares(values)
        assert bins.share.sum() == pytest.approx(1)
        assert population_stability(bins, values) == pytest.approx(0, abs=1e-12)
        assert (bins.up_to.dropna().diff().dropna() > 0).all()

    @given(numbers, numbers)
    def test_drift_is_never_negative(self, then: list[float], now: list[float]) -> None:
        assert population_stability(bin_shares(np.array(then, dtype=float)), np.array(now, dtype=float)) >= 0


def test_the_index_by_hand() -> None:
    # halves became a quarter and three quarters: 1/4 ln(1.5) - 1/4 ln(0.5)
    bins = bin_shares(np.array([1.0, 2.0]))
    assert population_stability(bins, np.array([1.0, 2, 2, 2])) == pytest.approx(0.25 * np.log(3))


class TestReference:
    rows = make_rows(n_customers=60, n_snapshots=5)

    def reference(self, rows: pd.DataFrame, validation: pd.DataFrame | None = None) -> pd.DataFrame:
        model = make_model(rows)
        model.validation = validation
        return drift_reference(model, rows[[*FEATURES, "never_recorded"]], rows.as_of_date)

    def test_is_of_the_newest_snapshot(self) -> None:
        reference = self.reference(self.rows)
        newest = self.rows[self.rows.as_of_date == self.rows.as_of_date.max()]
        assert set(reference.as_of_date) == {self.rows.as_of_date.max()}
        assert set(reference.customers) == {60}
        orders = reference[reference.feature == "orders_90d"]
        assert population_stability(orders, newest.orders_90d.to_numpy()) == pytest.approx(0)

    def test_tells_which_features_are_read(self) -> None:
        reference = self.reference(self.rows)
        assert set(reference.feature[reference.is_read]) == set(FEATURES)
        assert set(reference.feature[~reference.is_read]) == {"never_recorded"}

    def test_usual_is_the_farthest_that_an_earlier_snapshot_lay(self) -> None:
        orders = self.reference(self.rows).query("feature == 'orders_90d'")
        moved = [
            population_stability(orders, snapshot.orders_90d.to_numpy())
            for date, snapshot in self.rows.groupby("as_of_date")
            if date < self.rows.as_of_date.max()
        ]
        assert orders.usual_psi.unique() == pytest.approx([max(moved)])

    def test_of_two_earlier_snapshots_nobody_knows_what_is_usual(self) -> None:
        dates = sorted(self.rows.as_of_date.unique())
        assert self.reference(self.rows[self.rows.as_of_date.isin(dates[-3:])]).usual_psi.isna().all()
        assert self.reference(self.rows[self.rows.as_of_date.isin(dates[-4:])]).usual_psi.notna().all()

    def test_the_score_is_that_of_the_newest_validation(self) -> None:
        validation = self.rows[["as_of_date"]].assign(probability=np.linspace(0, 1, len(self.rows)))
        reference = self.reference(self.rows, validation).query("feature == @SCORE")
        assert population_stability(reference, np.linspace(0.8, 1, 60)) < 0.2
        assert population_stability(reference, np.linspace(0, 0.2, 60)) > 1
        assert not reference.is_read.any()

    def test_without_validation_the_score_has_none(self) -> None:
        assert SCORE not in set(self.reference(self.rows).feature)


class TestNewReferences:
    @pytest.fixture
    def registered(self, model_registry) -> None:
        rows = make_rows(n_customers=60, n_snapshots=2)
        for keeps in (True, False, True):
            model = make_model(rows)
            if keeps:
                model.reference = drift_reference(model, rows[FEATURES], rows.as_of_date)
            registry.register(model, promote=True, reason="")

    def test_of_an_empty_registry_is_an_empty_table(self, model_registry) -> None:
        assert new_references(None) == SCHEMA.empty_table()

    def test_a_version_without_a_reference_has_no_rows(self, registered: None) -> None:
        table = new_references(None)
        assert table.schema == SCHEMA
        assert set(table["model_version"].to_pylist()) == {"1", "3"}
        # null, not not-a-number, at open ends: SQL knows the difference
        assert table["up_to"].null_count > 0
        assert not pa.compute.any(pa.compute.is_nan(table["up_to"])).as_py()

    def test_versions_that_are_there_are_not_read_again(self, registered: None) -> None:
        assert set(new_references(pd.Series(["1"]))["model_version"].to_pylist()) == {"3"}
        assert len(new_references(pd.Series(["1", "3"]))) == 0

    def test_a_file_that_is_gone_stops_nothing(self, registered: None, churn_home) -> None:
        for path in sorted(churn_home.glob("mlflow/artifacts/**/drift_reference.parquet"))[:1]:
            path.write_bytes(b"no parquet")
        assert len(set(new_references(None)["model_version"].to_pylist())) == 1
