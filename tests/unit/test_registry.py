import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import make_model, make_rows

from inference import registry
from inference.ensemble import ChurnModel

pytestmark = pytest.mark.usefixtures("model_registry")

VALIDATION = {"auroc": 0.81, "log_loss": 0.42, "ece": 0.03}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n_customers=150, n_snapshots=2)


@pytest.fixture(scope="module")
def first(rows: pd.DataFrame) -> ChurnModel:
    return make_model(rows[rows.as_of_date == "2024-01-01"])


@pytest.fixture(scope="module")
def second(rows: pd.DataFrame) -> ChurnModel:
    return make_model(rows, anchor="forecast", level_error=0.05, validation=VALIDATION)


def test_an_empty_registry_has_no_champion_and_no_versions() -> None:
    assert registry.champion() is None
    versions = registry.versions()
    assert versions.empty
    assert list(versions.columns) == list(registry.VERSION_COLUMNS)


def test_a_champion_comes_back_with_identical_predictions(first: ChurnModel, rows: pd.DataFrame) -> None:
    version = registry.register(first, promote=True, reason="there was no champion")
    champion = registry.champion()
    assert version == champion.version == "1"
    X = first.matrix(rows)
    np.testing.assert_array_equal(champion.model.logit(champion.model.matrix(rows)), first.logit(X))
    np.testing.assert_array_equal(champion.model.spend.predict(X), first.spend.predict(X))
    assert champion.model.details == first.details


def test_the_alias_stays_where_a_challenger_lost(first: ChurnModel, second: ChurnModel) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    assert registry.register(second, promote=False, reason="log-loss not below") == "2"
    assert registry.champion().version == "1"
    assert registry.champion().model.anchor == "model"


def test_the_alias_moves_to_a_challenger_that_won(first: ChurnModel, second: ChurnModel) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    assert registry.register(second, promote=True, reason="log-loss below") == "2"
    assert registry.champion().version == "2"
    assert registry.champion().model.anchor == "forecast"


def test_a_version_that_never_won_is_no_champion(first: ChurnModel) -> None:
    registry.register(first, promote=False, reason="kept back by hand")
    assert registry.champion() is None
    assert registry.versions().is_champion.tolist() == [False]


def test_versions_tell_their_story_oldest_first(first: ChurnModel, second: ChurnModel) -> None:
    before = pd.Timestamp.now("UTC").tz_localize(None).floor("s")
    registry.register(first, promote=True, reason="there was no champion")
    registry.register(second, promote=False, reason="log-loss not below")
    versions = registry.versions()
    assert list(versions.columns) == list(registry.VERSION_COLUMNS)
    assert versions.model_version.tolist() == ["1", "2"]
    assert versions.is_champion.tolist() == [True, False]
    assert versions.decision.tolist() == ["promoted", "kept_back"]
    assert versions.reason.tolist() == ["there was no champion", "log-loss not below"]
    assert versions.members.tolist() == ["logistic", "logistic"]
    assert versions.level_anchor.tolist() == ["model", "forecast"]
    assert versions.level_error.fillna(-1).tolist() == [-1, 0.05]
    assert versions.training_rows.tolist() == [150, 300]
    assert versions.training_customers.tolist() == [150, 150]
    assert versions.first_snapshot.tolist() == [pd.Timestamp("2024-01-01")] * 2
    assert versions.last_snapshot.tolist() == [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-29")]
    assert versions.validation_auroc.fillna(-1).tolist() == [-1, 0.81]
    assert versions.validation_log_loss.fillna(-1).tolist() == [-1, 0.42]
    assert versions.validation_ece.fillna(-1).tolist() == [-1, 0.03]
    assert versions.trained_at.between(before, before + pd.Timedelta(minutes=10)).all()
    assert versions.run_id.nunique() == 2


def test_the_tenth_version_comes_after_the_ninth(first: ChurnModel) -> None:
    for _ in range(10):
        registry.register(first, promote=True, reason="again")
    assert registry.versions().model_version.tolist() == [str(n) for n in range(1, 11)]
    assert registry.champion().version == "10"


def test_everything_lies_in_the_home_folder(first: ChurnModel, model_registry, monkeypatch, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    registry.register(first, promote=True, reason="there was no champion")
    assert registry.champion() is not None
    assert list(model_registry.glob("artifacts/*/artifacts/model/config.json"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("harm", ["one file is gone", "all files are gone", "one file is other bytes"])
def test_a_damaged_champion_is_named_with_what_to_do(first: ChurnModel, churn_home: Path, harm: str) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    (weights,) = (churn_home / "mlflow" / "artifacts").rglob("logistic.skops")
    if harm == "one file is gone":
        weights.unlink()
    elif harm == "all files are gone":
        shutil.rmtree(weights.parent)
    else:
        weights.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(
        registry.DamagedModelError, match=r"champion 1 in .*/model cannot be read; .* churn-radar train"
    ):
        registry.champion()
