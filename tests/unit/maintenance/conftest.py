"""A home with everything in it, made once per file; each test has its own copy."""

import shutil
from pathlib import Path

import pytest
from small_home import fill


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory, empty_mlflow_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "home"
    (folder / "mlflow").mkdir(parents=True)
    shutil.copy(empty_mlflow_database, folder / "mlflow" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_HOME", str(folder))
        patch.setenv("DBT_TARGET_PATH", str(folder / "target"))
        patch.setattr("inference.warehouse.manifest._running", None)  # as in churn_home
        fill(folder)
    return folder


@pytest.fixture
def kept_home(filled_home: Path, churn_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home, which ``CHURN_HOME`` names."""
    shutil.copytree(filled_home, churn_home)
    monkeypatch.setenv("DBT_TARGET_PATH", str(churn_home / "target"))
    return churn_home
