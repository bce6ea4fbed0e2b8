import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
from builders import make_model, make_rows

from inference.errors import ChurnRadarError
from inference.home import home
from inference.model.churn_model import ChurnModel
from inference.registry import registry, snapshot
from inference.registry.contents import RegistrySnapshot

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
    assert champion.model.summary == first.summary


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


def test_versions_are_listed_oldest_first(first: ChurnModel, second: ChurnModel) -> None:
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
def test_the_error_for_a_damaged_champion_names_it_and_the_remedy(
    first: ChurnModel, churn_home: Path, harm: str
) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    (weights,) = (churn_home / "mlflow" / "artifacts").rglob("logistic.npz")
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


def test_a_process_loads_the_same_files_once(
    first: ChurnModel, second: ChurnModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    champion = registry.champion()
    assert registry.champion().model is registry.load("1").model is champion.model
    # an encoder of another name may be read by a part of it
    monkeypatch.setenv("CHURN_ENCODER", "another")
    assert registry.champion().model is not champion.model
    registry.register(second, promote=True, reason="log-loss below")
    assert registry.champion().model.anchor == "forecast"
    assert registry.load("1").model.anchor == "model"


def test_rollback_returns_to_the_champion_before_or_to_any_version(first: ChurnModel, second: ChurnModel) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    registry.register(second, promote=False, reason="log-loss not below")
    registry.register(second, promote=True, reason="log-loss below")
    assert registry.rollback(reason="too many calls") == "1"
    assert registry.champion().version == "1"
    assert registry.rollback("2") == "2"
    versions = registry.versions()
    assert versions.model_version.tolist() == ["1", "2", "3", "1", "2"]
    assert versions.decision.tolist() == ["promoted", "kept_back", "promoted", "rolled_back", "rolled_back"]
    assert versions.reason.tolist()[3:] == [
        "returned from version 3: too many calls",
        "returned from version 1: asked for",
    ]
    assert versions.is_champion.tolist() == [False, True, False, False, True]


def test_rollback_refuses_unknown_or_damaged_versions(first: ChurnModel, churn_home: Path) -> None:
    with pytest.raises(ChurnRadarError, match="no earlier champion"):
        registry.rollback()
    registry.register(first, promote=True, reason="there was no champion")
    with pytest.raises(ChurnRadarError, match="no earlier champion"):
        registry.rollback()
    with pytest.raises(
        ChurnRadarError, match="version 7 is not registered; expected one of the registered versions: 1"
    ):
        registry.rollback("7")
    with pytest.raises(ChurnRadarError, match="version 1 is the champion already"):
        registry.rollback("1")
    registry.register(first, promote=True, reason="again")
    registry.champion()  # this process keeps one model, now version 2
    shutil.rmtree(churn_home / "mlflow" / "artifacts" / registry.versions().run_id[0])
    with pytest.raises(ChurnRadarError, match="cannot be read"):
        registry.rollback("1")
    assert registry.versions().is_champion.tolist() == [False, True]


def test_each_date_has_its_champion(first: ChurnModel, second: ChurnModel) -> None:
    days = [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)]
    registry.register(first, promote=True, reason="there was no champion", as_of_date=days[0])
    registry.register(second, promote=True, reason="log-loss below", as_of_date=days[1])
    registry.register(second, promote=False, reason="log-loss not below", as_of_date=days[2])
    assert registry.champion(date(2023, 12, 31)) is None
    assert registry.champion(date(2024, 1, 31)).version == "1"
    assert registry.champion(days[1]).version == "2"
    assert registry.champion(days[2]).version == "2"
    # a model for a past date scores that date alone
    registry.register(first, promote=True, reason="there was no champion", as_of_date=date(2023, 6, 1))
    assert registry.champion(date(2023, 7, 1)).version == "4"
    assert registry.champion().version == registry.champion(days[2]).version == "2"
    registry.rollback("1")
    assert registry.champion().version == registry.champion(days[2]).version == "1"
    assert registry.champion(date(2024, 2, 15)).version == "2"


def test_a_deleted_champion_of_a_date_gives_way_to_the_one_before(first: ChurnModel, second: ChurnModel) -> None:
    for month in (1, 2, 3):
        registry.register(first, promote=True, reason="better", as_of_date=date(2024, month, 1))
    registry.client().delete_model_version(registry.MODEL_NAME, "2")
    assert registry.champion(date(2024, 2, 15)).version == "1"
    assert registry.versions().model_version.tolist() == ["1", "3"]


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "moved"])
def test_the_registry_moves_with_its_home(
    first: ChurnModel, second: ChurnModel, churn_home: Path, monkeypatch: pytest.MonkeyPatch, caplog, is_copied: bool
) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    assert registry.champion().version == "1"  # its snapshot is saved
    other = churn_home.with_name("other's %home")
    shutil.copytree(churn_home, other, copy_function=shutil.copy2)
    before = files_of(churn_home)
    if not is_copied:
        shutil.rmtree(churn_home)
    monkeypatch.setenv("CHURN_HOME", str(other))
    registry._load_files.cache_clear()
    assert registry.champion().version == "1"
    assert registry.register(second, promote=True, reason="better") == "2"
    assert "the home was copied or moved" in caplog.text
    assert registry.champion().version == "2"
    registry.rollback("1")
    assert registry.champion().version == "1"
    assert len(list(other.glob("mlflow/artifacts/*"))) == 2
    assert files_of(churn_home) == (before if is_copied else {})
    sources = [version.source for version in registry.client().search_model_versions("")]
    assert all(Path(unquote(urlparse(source).path)).is_relative_to(other) for source in sources)


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestSnapshot:
    @pytest.fixture(autouse=True)
    def champion(self, first: ChurnModel, model_registry: Path) -> None:
        registry.register(first, promote=True, reason="there was no champion")
        assert registry.champion().version == "1"

    @pytest.fixture
    def no_mlflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise RuntimeError("MLflow was queried")

        monkeypatch.setattr(snapshot, "client", refuse)

    def test_answers_without_mlflow(self, no_mlflow: None) -> None:
        assert registry.champion().version == "1"
        assert registry.versions().reason.tolist() == ["there was no champion"]
        assert registry.load("1").version == "1"

    def test_is_read_again_when_another_process_changed_it(self) -> None:
        alias = (registry.MODEL_NAME, registry.CHAMPION)
        change = f"import mlflow; mlflow.MlflowClient('{database()}').delete_registered_model_alias{alias}"
        subprocess.run([sys.executable, "-c", change], check=True, capture_output=True)
        assert registry.champion() is None

    @pytest.mark.parametrize("rest", ["", "{", "[]", "{}", "nothing"])
    def test_is_read_again_when_it_is_damaged(self, churn_home: Path, rest: str) -> None:
        file = churn_home / "mlflow" / "contents.json"
        if rest == "nothing":
            file.unlink()
        else:
            file.write_text(rest)
        assert registry.champion().version == "1"
        assert json.loads(file.read_text())["champion"] == "1"

    def test_is_not_saved_by_load(self, churn_home: Path) -> None:
        (churn_home / "mlflow" / "contents.json").unlink()
        assert registry.load("1").version == "1"
        assert not (churn_home / "mlflow" / "contents.json").exists()

    def test_is_not_saved_where_nothing_can_be_written(self, churn_home: Path) -> None:
        file = churn_home / "mlflow" / "contents.json"
        file.unlink()
        file.mkdir()  # not even root can replace a folder by a file
        assert registry.champion().version == "1"

    def test_a_version_whose_run_is_gone_still_scores(self, first: ChurnModel, churn_home: Path) -> None:
        registry.register(first, promote=False, reason="not better")
        with sqlite3.connect(churn_home / "mlflow" / "mlflow.db") as connection:
            gone = (registry.versions().run_id[0],)
            for table in ("params", "metrics", "latest_metrics", "tags", "runs"):
                connection.execute(f"delete from {table} where run_uuid = ?", gone)
        assert registry.champion().version == "1"
        assert registry.versions().model_version.tolist() == ["2"]

    def test_is_not_saved_for_a_remote_registry(self, churn_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", database())
        (churn_home / "mlflow" / "contents.json").unlink()
        assert registry.champion().version == "1"
        assert not (churn_home / "mlflow" / "contents.json").exists()

    def test_remote_artifacts_are_downloaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", database())
        (version,) = snapshot.read_snapshot().versions.values()
        remote = replace(version, source=f"mlflow-artifacts:/{version.run_id}/model")
        folder = snapshot.artifact_path(remote, str(tmp_path))
        assert folder.is_relative_to(tmp_path)
        ours, theirs = (
            sorted(path.name for path in at.iterdir()) for at in (folder, Path(urlparse(version.source).path))
        )
        assert ours == theirs
        with pytest.raises(OSError, match=r"nothing\.parquet"):
            snapshot.artifact_path(remote, str(tmp_path), "nothing.parquet")


def database() -> str:
    return f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}"


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "torn"])
def test_a_damaged_database_is_made_again_from_the_snapshot(
    first: ChurnModel, second: ChurnModel, churn_home: Path, monkeypatch: pytest.MonkeyPatch, caplog, is_gone: bool
) -> None:
    registry.register(first, promote=True, reason="there was no champion")
    for reason in ("worse", "worse still"):
        registry.register(second, promote=False, reason=reason)
    registry.client().delete_model_version(registry.MODEL_NAME, "2")
    before, runs = registry.versions(), runs_of(registry.read_snapshot())
    # this process keeps MLflow's connection to the file at its first place
    monkeypatch.setenv("CHURN_HOME", str(churn_home.rename(churn_home.with_name("moved"))))
    file = home() / "mlflow" / "mlflow.db"
    content = file.read_bytes()
    file.unlink() if is_gone else file.write_bytes(content[:9000] + bytes(len(content) - 9000))
    registry._load_files.cache_clear()
    assert registry.champion().version == "1"
    assert "made again from contents.json with 2 versions" in caplog.text
    pd.testing.assert_frame_equal(registry.versions(), before)
    assert runs_of(registry.read_snapshot()) == runs
    assert file.with_name("mlflow.db.damaged").exists() != is_gone
    assert registry.register(second, promote=True, reason="better") == "4"
    registry.rollback("3")
    assert registry.champion().version == "3"


def runs_of(snapshot: RegistrySnapshot) -> dict[str, dict]:
    """Everything about each version but the place of its files."""
    return {number: asdict(version) | {"source": ""} for number, version in snapshot.versions.items()}


def test_a_damaged_database_without_a_snapshot_is_one_line(model_registry: Path) -> None:
    (model_registry / "mlflow.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(ChurnRadarError, match=r"mlflow.db is damaged, and contents.json .* restore a backup"):
        registry.champion()
