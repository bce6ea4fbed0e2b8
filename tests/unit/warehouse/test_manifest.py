import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from dbt.adapters.factory import FACTORY

from inference.errors import ChurnRadarError
from inference.home import PROJECT_DIR
from inference.warehouse import manifest, plugin
from inference.warehouse.manifest import Manifest, engine, manifest_path, note_target


def write(path: Path, **models: tuple[str, dict[str, str]]) -> Path:
    """A manifest of models: Feast service, and data types by column."""
    nodes = {
        f"model.shop.{name}": {
            "resource_type": "model",
            "name": name,
            "checksum": {"checksum": "1"},
            "config": {"meta": {"feast": {"service": service}} if service else {}},
            "columns": {c: {"name": c, "data_type": kind} for c, kind in columns.items()},
        }
        for name, (service, columns) in models.items()
    }
    nodes["seed.shop.s"] = {"resource_type": "seed", "config": {"meta": {}}}
    path.write_text(json.dumps({"nodes": nodes}))
    return path


def test_model_columns_are_the_numbers_of_feature_tables_in_the_order_of_the_tables(tmp_path):
    file = write(
        tmp_path / "manifest.json",
        text_features=("churn_features_v1", {"customer_id": "varchar", "texts_60d": "bigint", "embedding": "float[]"}),
        order_features=(
            "churn_features_v1",
            {"spend_90d": "DOUBLE", "days_since_last_order": "bigint", "vip": "boolean"},
        ),
        churn_scores=("churn_scores_v1", {"churn_probability": "double"}),
        churn_labels=("", {"churned": "integer"}),
    )
    assert Manifest(file).model_columns == ["spend_90d", "days_since_last_order", "texts_60d"]
    assert Manifest(file).packed_names == ["spend_90d", "texts_60d"]  # time features are packed in their own place


def test_a_manifest_is_parsed_again_only_when_it_changed(tmp_path):
    file = write(tmp_path / "manifest.json", a=("churn_features_v1", {"x": "double"}))
    first = Manifest.load(file)
    assert Manifest.load(file) is first
    write(file, a=("churn_features_v1", {"x": "double", "y": "integer"}))
    os.utime(file, ns=(1, 1))
    assert Manifest.load(file).model_columns == ["x", "y"]


def test_without_a_manifest_the_warehouse_is_duckdb_and_columns_are_refused(tmp_path):
    missing = Manifest.load(tmp_path / "manifest.json")
    assert (missing.warehouse, missing.fingerprint, missing.definitions) == ("duckdb", None, [])
    with pytest.raises(ChurnRadarError, match=r"manifest\.json: no such file; run `dbt build` or `dbt parse` first"):
        _ = missing.model_columns


def content(**changes: object) -> dict:
    node = {"resource_type": "model", "checksum": {"checksum": "1"}, "config": {"meta": {}, "materialized": "table"}}
    macros = {"macro.shop.ours": {"macro_sql": "a"}, "macro.dbt.theirs": {"macro_sql": "b"}}
    return {"metadata": {"dbt_version": "1.11"}, "nodes": {"model.shop.m": node | changes}, "macros": macros}


def fingerprint(path: Path, written: dict) -> str | None:
    path.write_text(json.dumps(written))
    return Manifest(path).fingerprint


def test_the_fingerprint_is_that_of_code_and_settings(tmp_path):
    file = tmp_path / "manifest.json"
    before = fingerprint(file, content())
    assert before == "da7a026c77e5fa5fa3e2d88abdb4dc1d"  # of scores of earlier versions
    assert fingerprint(file, content(created_at=2, description="other")) == before
    assert fingerprint(file, content(checksum={"checksum": "2"})) != before
    changed = content()
    changed["macros"]["macro.dbt.theirs"]["macro_sql"] = "c"
    assert fingerprint(file, changed) == before
    changed["macros"]["macro.shop.ours"]["macro_sql"] = "c"
    assert fingerprint(file, changed) != before


class TestPath:
    @pytest.fixture(autouse=True)
    def _no_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(manifest, "_running", None)
        monkeypatch.delenv("DBT_TARGET_PATH", raising=False)

    @staticmethod
    def target(folder: Path) -> Path:
        folder.mkdir(parents=True)
        return write(folder / "manifest.json")

    @staticmethod
    def later_process(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(manifest, "_running", None)

    def test_without_any_build_it_is_expected_in_the_project(self, monkeypatch):
        monkeypatch.setattr(manifest, "PROJECT_DIR", Path("/nowhere"))
        assert manifest_path() == Path("/nowhere/target/manifest.json")
        monkeypatch.setenv("DBT_TARGET_PATH", "build")
        assert manifest_path() == Path("/nowhere/build/manifest.json")

    def test_a_variable_counts_from_the_working_directory_or_the_project(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DBT_TARGET_PATH", "build")
        monkeypatch.setattr(manifest, "PROJECT_DIR", tmp_path / "project")
        of_project = self.target(tmp_path / "project" / "build")
        assert manifest_path() == of_project
        of_working_directory = self.target(tmp_path / "build")
        monkeypatch.chdir(tmp_path)
        assert manifest_path() == of_working_directory

    def test_the_flag_of_the_running_command_comes_before_the_variable(self, tmp_path, monkeypatch):
        of_flag, of_variable = self.target(tmp_path / "flag"), self.target(tmp_path / "variable")
        monkeypatch.setenv("DBT_TARGET_PATH", str(of_variable.parent))
        note_target(of_flag.parent)
        assert manifest_path() == of_flag
        self.later_process(monkeypatch)
        assert manifest_path() == of_variable

    def test_later_processes_find_that_of_a_host_project(self, tmp_path, monkeypatch):
        host = self.target(tmp_path / "host" / "target")
        config = SimpleNamespace(project_target_path=str(host.parent))
        monkeypatch.setitem(FACTORY.adapters, "duckdb", SimpleNamespace(config=config))
        plugin.note_project_target()
        self.later_process(monkeypatch)
        assert manifest_path() == host
        host.unlink()  # a note of a folder that is gone
        assert manifest_path() == PROJECT_DIR / "target" / "manifest.json"

    def test_dbt_debug_has_no_project(self, churn_home, monkeypatch):
        monkeypatch.setitem(FACTORY.adapters, "duckdb", SimpleNamespace(config=SimpleNamespace()))
        plugin.note_project_target()
        assert not churn_home.exists()


def test_the_engine_is_that_of_the_warehouse_unless_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))
    monkeypatch.delenv("CHURN_ENGINE", raising=False)
    assert engine() == "local"
    (tmp_path / "manifest.json").write_text(json.dumps({"metadata": {"adapter_type": "sparkpython"}}))
    assert engine() == "spark"
    monkeypatch.setenv("CHURN_ENGINE", "local")
    assert engine() == "local"
    monkeypatch.setenv("CHURN_ENGINE", "flink")
    with pytest.raises(ChurnRadarError, match="CHURN_ENGINE is flink; expected local or spark"):
        engine()


@pytest.mark.parametrize(
    ("adapter", "database", "warehouse"),
    [
        ("duckdb", "churn_radar", "duckdb"),
        ("duckdb", "postgres", "postgres"),
        ("postgrespython", "shop", "postgres"),  # a manifest of the version before
        ("sparkpython", None, "spark"),
    ],
)
def test_the_warehouse_is_where_the_models_lie(tmp_path, adapter, database, warehouse):
    node = {"resource_type": "model", "config": {}, "checksum": {"checksum": "0"}, "database": database}
    content = {"metadata": {"adapter_type": adapter}, "nodes": {"model.churn_radar.a": node}, "macros": {}}
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(content))
    assert Manifest(file).warehouse == warehouse
