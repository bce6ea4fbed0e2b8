"""Lookups on a real, tiny feature store: two customers, one feature view, two services."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, Project, ValueType
from feast.types import Float64, Int64, String

from inference.errors import ChurnRadarError
from inference.feature_store import client as feature_store

AS_OF = datetime(2024, 1, 1, tzinfo=UTC)
YAML = """
project: tiny
provider: local
registry: registry.db
offline_store: {type: duckdb}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""


@pytest.fixture(scope="module")
def tiny_repo(tmp_path_factory):
    repo = tmp_path_factory.mktemp("repo")
    (repo / "feature_store.yaml").write_text(YAML)
    known = {
        "customer_id": ["a", "b"],
        "event_timestamp": [AS_OF.replace(tzinfo=None)] * 2,
        "days_since_last_order": [1, 2],
        "churn_probability": [0.9, 0.1],
        "risk_band": ["high", "low"],
    }
    pd.DataFrame(known).to_parquet(repo / "known.parquet")
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="known",
        entities=[customer],
        ttl=timedelta(days=35),
        schema=[
            Field(name="days_since_last_order", dtype=Int64),
            Field(name="churn_probability", dtype=Float64),
            Field(name="risk_band", dtype=String),
        ],
        source=FileSource(path=str(repo / "known.parquet"), timestamp_field="event_timestamp"),
    )
    store = FeatureStore(repo_path=str(repo))
    model = FeatureService(name="churn_model_v1", features=[view[["days_since_last_order"]]])
    scores = FeatureService(name="churn_scores_v1", features=[view[["churn_probability", "risk_band"]]])
    store.apply([customer, view, model, scores])
    store.materialize(AS_OF, AS_OF)
    return repo


@pytest.fixture
def tiny_store(monkeypatch: pytest.MonkeyPatch, tiny_repo):
    monkeypatch.setattr(feature_store, "FEATURE_REPO", tiny_repo)


@pytest.mark.usefixtures("tiny_store")
class TestLookups:
    rows = pd.DataFrame(
        {
            "customer_id": ["b", "c", "a"],
            "as_of_date": pd.to_datetime(["2024-01-01"] * 3),
            "churned": [0, None, 1],
        }
    )

    def test_features_are_joined_by_customer_never_by_position(self) -> None:
        joined = feature_store.historical_features(self.rows)
        assert list(joined.customer_id) == ["b", "c", "a"]
        assert joined.days_since_last_order.fillna(-1).tolist() == [2, -1, 1]

    def test_other_columns_are_kept(self) -> None:
        joined = feature_store.historical_features(self.rows)
        assert list(joined.columns) == ["customer_id", "as_of_date", "churned", "days_since_last_order"]
        assert joined.churned.fillna(-1).tolist() == [0, -1, 1]

    def test_nobody_to_look_up_is_refused_in_one_line(self) -> None:
        with pytest.raises(ChurnRadarError, match="no eligible customer; expected at least one"):
            feature_store.historical_features(self.rows[:0])

    def test_online_customers_come_in_the_order_asked_for_strangers_with_nulls(self) -> None:
        answer = feature_store.online_features(["stranger", "a"], "churn_scores_v1")
        assert answer.customer_id.tolist() == ["stranger", "a"]
        assert answer.churn_probability.fillna(-1).tolist() == [-1, 0.9]

    def test_scores_are_unpacked_strangers_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        packed = pd.DataFrame({"customer_id": ["b", "stranger", "a"], "score": ['{"p": 0.5}', None, '{"p": 0.25}']})
        monkeypatch.setattr(feature_store, "online_features", lambda *_: packed)
        answer = feature_store.online_scores(["b", "stranger", "a"])
        assert answer.to_dict("list") == {"customer_id": ["b", "a"], "p": [0.5, 0.25]}

    def test_online_features_come_in_the_order_of_the_service(self) -> None:
        answer = feature_store.online_features(["a"], "churn_scores_v1")
        assert list(answer.columns) == ["customer_id", "churn_probability", "risk_band"]


def test_an_error_of_feast_is_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\n  file\nValueError: type decimal\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ChurnRadarError, match=r"^feast apply: ValueError: type decimal$"):
        feature_store.apply()


class TestFingerprint:
    @pytest.fixture
    def project(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """A copy of the files that definitions are made of."""
        shutil.copytree(feature_store.FEATURE_REPO, tmp_path / "feature_repo")
        for name in feature_store.DEFINITION_MODULES:
            copy = tmp_path / "inference" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(feature_store.PROJECT_DIR / "inference" / name, copy)
        monkeypatch.setattr(feature_store, "PROJECT_DIR", tmp_path)
        monkeypatch.setattr(feature_store, "FEATURE_REPO", tmp_path / "feature_repo")
        return tmp_path

    def test_it_changes_with_each_file_of_the_definitions(self, project: Path) -> None:
        seen = {feature_store.definitions_fingerprint()}
        files = [file for file in project.rglob("*") if file.suffix in (".py", ".yaml")]
        for file in files:
            file.write_text(file.read_text() + "\n# changed")
            seen.add(feature_store.definitions_fingerprint())
        assert len(files) > len(feature_store.DEFINITION_MODULES)
        assert len(seen) == len(files) + 1

    def test_every_module_that_the_feature_repository_names_is_among_them(self) -> None:
        code = "".join(file.read_text() for file in feature_store.FEATURE_REPO.iterdir() if file.is_file())
        names = {name.replace(".", "/") + ".py" for name in re.findall(r"inference\.([a-z_]+(?:\.[a-z_]+)*)", code)}
        assert names <= set(feature_store.DEFINITION_MODULES)


class TestApply:
    """A registry that was applied; each test then changes something."""

    @pytest.fixture(autouse=True)
    def _applied(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, churn_home: Path) -> None:
        self.repo, self.calls = tmp_path / "repo", []
        self.repo.mkdir()
        (self.repo / "feature_store.yaml").write_text(
            YAML.replace("registry.db", str(churn_home / "feast/registry.db"))
        )
        monkeypatch.setattr(feature_store, "FEATURE_REPO", self.repo)
        monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))
        self.manifest, self.registry = tmp_path / "manifest.json", churn_home / "feast" / "registry.db"
        self.write_manifest("Days.")
        self.registry.parent.mkdir(parents=True)

        def run(*_: object, **__: object) -> subprocess.CompletedProcess:
            self.calls.append("applied")
            if self.calls[1:]:  # only counted
                return subprocess.CompletedProcess([], 0)
            project = Project(name="tiny", tags={"definitions": feature_store.definitions_fingerprint()})
            FeatureStore(repo_path=str(self.repo)).apply([project])
            return subprocess.CompletedProcess([], 0)

        monkeypatch.setattr(subprocess, "run", run)
        feature_store.apply()
        assert self.calls == ["applied"]

    def write_manifest(self, description: str, created_at: float = 1.0, other: str = "select 1") -> None:
        config = {"meta": {"feast": {"service": "churn_features_v1"}}, "contract": {"enforced": True}}
        columns = {"days": {"name": "days", "data_type": "bigint", "description": description}}
        node = {"resource_type": "model", "description": "", "created_at": created_at, "columns": columns}
        nodes = {
            "model.tiny.m": node | {"config": config},
            "model.tiny.o": node | {"config": {"meta": {}}, "raw_code": other},
        }
        self.manifest.write_text(json.dumps({"nodes": nodes}))

    def test_what_the_registry_has_is_not_applied_again(self) -> None:
        feature_store.apply()
        self.write_manifest("Days.", created_at=2.0, other="select 2")
        feature_store.apply()
        assert self.calls == ["applied"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda self, _: self.write_manifest("Whole days."),
            lambda self, _: (self.repo / "definitions.py").write_text("ttl = 36"),
            lambda self, _: (self.repo / "feature_store.yaml").write_text(f"{YAML}# another"),
            lambda self, monkeypatch: monkeypatch.setenv("CHURN_REDIS", "127.0.0.1:6379"),
            lambda self, monkeypatch: monkeypatch.setattr(feature_store, "version", lambda _: "0.68.0"),
            lambda self, _: self.registry.unlink(),
            lambda self, _: self.registry.write_bytes(b"no registry"),
        ],
        ids=["contract", "definitions", "settings", "redis", "version", "registry gone", "registry damaged"],
    )
    def test_anything_that_changed_is_applied(self, monkeypatch: pytest.MonkeyPatch, change: Callable) -> None:
        change(self, monkeypatch)
        feature_store.apply()
        assert self.calls == ["applied", "applied"]
