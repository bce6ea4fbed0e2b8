"""What every unit test stands on: a home folder of its own, reproducible examples."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def churn_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; nothing that a test writes reaches the project's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CHURN_HOME", str(folder))
    # an encoder of a new home proves its runtimes for seconds, where anything but float32 would do
    monkeypatch.setenv("CHURN_ENCODER_FIDELITY", "1")
    # dbt may have run in this process, in a test of tests/integration
    monkeypatch.setattr("inference.warehouse.manifest._running", None)
    # the command line, run in a test, keeps the log from caplog
    monkeypatch.setattr(logging.getLogger("inference"), "propagate", True)
    # whatever dbt built last in the project
    monkeypatch.setenv("CHURN_ENGINE", "local")
    for name in ("CHURN_RAW_DIR", "CHURN_REDIS", "CHURN_NOTIFY_URLS", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file with its tables and nothing in them; making them takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def model_registry(churn_home: Path, empty_mlflow_database: Path) -> Path:
    """A real MLflow registry in the home folder, empty."""
    folder = churn_home / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty_mlflow_database, folder / "mlflow.db")
    return folder
