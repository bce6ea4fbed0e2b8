import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import FEATURES, make_rows

from inference.errors import ChurnRadarError
from inference.model.churn_model import ChurnModel, feature_matrix
from inference.model.members import BoostingMember, LogisticMember
from inference.model.spend import SpendModel
from inference.model.training_summary import TrainingSummary


class FixedMember:
    """Gives everybody the same log-odds, all of them owed to the first feature."""

    def __init__(self, name: str, logit: float) -> None:
        self.name = name
        self.value = logit

    def logit(self, X: pd.DataFrame) -> np.ndarray:
        return np.full(len(X), self.value)

    def contributions(self, X: pd.DataFrame) -> np.ndarray:
        return np.tile([self.value, 0.0, 0.0], (len(X), 1))


@pytest.fixture
def fixed() -> ChurnModel:
    members = [FixedMember("logistic", -1.0), FixedMember("boosting", 2.0)]
    return ChurnModel(["silence", "spend"], members, SpendModel(), "model", 0.5, 30)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n_customers=200, n_snapshots=3)


@pytest.fixture(scope="module")
def trained(rows: pd.DataFrame) -> ChurnModel:
    X, y = feature_matrix(rows, FEATURES), rows.churned.to_numpy(dtype=int)
    return ChurnModel(
        features=FEATURES,
        members=[LogisticMember().fit(X, y), BoostingMember(n_seeds=2).fit(X, y)],
        spend=SpendModel().fit(X[y == 0], rows.horizon_spend[y == 0].to_numpy()),
        anchor="latest_rate",
        threshold=0.35,
        horizon_days=30,
        summary=TrainingSummary(last_snapshot="2024-02-26"),
    )


class TestAverage:
    X = pd.DataFrame({"silence": [1.0, 2.0], "spend": [3.0, 4.0]})

    def test_is_the_mean_of_the_members_log_odds(self, fixed: ChurnModel) -> None:
        np.testing.assert_array_equal(fixed.logit(self.X), [0.5, 0.5])

    def test_each_member_speaks_under_its_name(self, fixed: ChurnModel) -> None:
        logits = fixed.member_logits(self.X)
        assert list(logits) == ["logistic", "boosting"]
        assert list(logits["boosting"]) == [2, 2]

    def test_contributions_are_the_mean_of_the_members(self, fixed: ChurnModel) -> None:
        contributions = fixed.contributions(self.X)
        assert list(contributions) == ["silence", "spend"]
        np.testing.assert_array_equal(contributions, [[0.5, 0]] * 2)

    def test_contributions_of_real_members_sum_to_the_log_odds_less_the_base_value(
        self, trained: ChurnModel, rows: pd.DataFrame
    ) -> None:
        X = trained.matrix(rows)
        base = np.mean([member.contributions(X)[:, -1] for member in trained.members], axis=0)
        np.testing.assert_allclose(trained.contributions(X).sum(axis=1) + base, trained.logit(X), rtol=0, atol=1e-9)


class TestMatrix:
    def test_picks_its_columns_in_its_order(self, fixed: ChurnModel) -> None:
        X = fixed.matrix(pd.DataFrame({"spend": [3], "customer_id": ["a"], "silence": [1]}))
        assert list(X.columns) == ["silence", "spend"]
        assert X.to_numpy().tolist() == [[1.0, 3.0]]

    @pytest.mark.parametrize(
        "column",
        [
            pytest.param(pd.array([2, None], dtype="Int64"), id="nullable integers"),
            pytest.param(pd.Series([2, None], dtype="object"), id="objects"),
            pytest.param(pd.array([2.0, None], dtype="Float64"), id="nullable doubles"),
        ],
    )
    def test_unknown_is_null_whatever_the_type(self, column: pd.Series) -> None:
        X = feature_matrix(pd.DataFrame({"silence": column}), ["silence"])
        assert X.silence.dtype == np.float64
        np.testing.assert_array_equal(X.silence, [2, np.nan])

    def test_a_column_of_nothing_is_null(self) -> None:
        X = feature_matrix(pd.DataFrame({"silence": [None, None]}), ["silence"])
        assert X.silence.dtype == np.float64
        assert X.silence.isna().all()

    def test_yes_and_no_are_one_and_zero(self) -> None:
        X = feature_matrix(pd.DataFrame({"subscribed": [True, False]}), ["subscribed"])
        assert list(X.subscribed) == [1.0, 0.0]

    def test_names_the_features_that_are_missing(self, fixed: ChurnModel) -> None:
        with pytest.raises(ChurnRadarError, match=r"^features spend are missing; .*retrain it$"):
            fixed.matrix(pd.DataFrame({"silence": [1.0]}))


class TestSaving:
    def test_a_saved_model_answers_bit_for_bit_the_same(
        self, trained: ChurnModel, rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        trained.save(tmp_path / "model")
        loaded = ChurnModel.load(tmp_path / "model")
        X = loaded.matrix(rows)
        np.testing.assert_array_equal(loaded.logit(X), trained.logit(X))
        np.testing.assert_array_equal(loaded.contributions(X), trained.contributions(X))
        np.testing.assert_array_equal(loaded.spend.predict(X), trained.spend.predict(X))

    def test_a_saved_model_keeps_what_is_known_of_it(self, trained: ChurnModel, tmp_path: Path) -> None:
        trained.save(tmp_path)
        loaded = ChurnModel.load(tmp_path)
        assert loaded.features == FEATURES
        assert [member.name for member in loaded.members] == ["logistic", "boosting"]
        assert loaded.anchor == "latest_rate"
        assert loaded.threshold == 0.35
        assert loaded.horizon_days == 30
        assert loaded.summary == TrainingSummary(last_snapshot="2024-02-26")

    def test_a_saved_model_keeps_its_tables(self, trained: ChurnModel, tmp_path: Path) -> None:
        bins = pd.DataFrame({"feature": ["spend"], "up_to": [0.1], "share": [1 / 3]})
        validation = pd.DataFrame({"churned": [1], "probability": [0.7]})
        replace(trained, reference=bins, validation=validation).save(tmp_path / "with")
        trained.save(tmp_path / "without")
        loaded, bare = ChurnModel.load(tmp_path / "with"), ChurnModel.load(tmp_path / "without")
        pd.testing.assert_frame_equal(loaded.reference, bins, check_exact=True)
        pd.testing.assert_frame_equal(loaded.validation, validation, check_exact=True)
        assert bare.reference is None
        assert bare.validation is None

    def test_a_left_out_member_leaves_no_file(self, trained: ChurnModel, tmp_path: Path) -> None:
        ChurnModel(FEATURES, trained.members[:1], trained.spend, "model", 0.5, 30).save(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "config.json",
            "logistic.npz",
            "spend.json",
        ]

    @pytest.mark.parametrize("file", ["config.json", "logistic.npz", "boosting.json", "spend.json"])
    @pytest.mark.parametrize("harm", ["missing", "cut off"])
    def test_an_incomplete_folder_is_refused_in_one_line(
        self, trained: ChurnModel, tmp_path: Path, file: str, harm: str
    ) -> None:
        trained.save(tmp_path)
        path = tmp_path / file
        content = path.read_bytes()
        path.unlink()
        if harm == "cut off":
            path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ChurnRadarError, match="no complete churn model there"):
            ChurnModel.load(tmp_path)


def test_only_a_model_with_a_transformer_imports_its_libraries() -> None:
    code = "import sys, inference.training.champion, inference.scoring.score; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
