import json
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig
from feast.transformation.python_transformation import PythonTransformation

from inference import home
from inference.feature_store import stores
from inference.feature_store.client import FEATURE_REPO
from inference.feature_store.stores import (
    HomeOnlineStoreConfig,
    HomeRegistryStore,
    WarehouseOfflineStoreConfig,
    prepare_home,
    refuse_open_server,
)

#: As they stand in feature_store.yaml; Feast leaves a variable that is not set as it is.
REDIS = "${CHURN_REDIS}"
POSTGRES = "${CHURN_ONLINE_SCHEMA}"
PATH = "${CHURN_HOME}/feast/online.db"


def online_store() -> object:
    """Configure the online store as Feast does, which expands environment variables first."""
    return HomeOnlineStoreConfig(
        type="inference.feature_store.stores.HomeOnlineStore",
        redis=os.path.expandvars(REDIS),
        postgres=os.path.expandvars(POSTGRES),
        path=os.path.expandvars(PATH),
    )


def test_sqlite_in_the_home_folder_is_the_default(churn_home: Path) -> None:
    config = online_store()
    assert config.type == "sqlite"
    assert config.path == str(churn_home / "feast" / "online.db")


def test_the_folder_of_the_database_is_made(churn_home: Path) -> None:
    online_store()
    assert (churn_home / "feast").is_dir()


def test_an_empty_churn_redis_means_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_REDIS", "")
    assert online_store().type == "sqlite"


def test_redis_where_churn_redis_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_REDIS", "127.0.0.1:6379")
    config = online_store()
    assert config.type == "redis"
    assert config.connection_string == "127.0.0.1:6379"


def test_postgres_where_a_schema_is_named_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_ONLINE_SCHEMA", "feast")
    monkeypatch.setenv("PGHOST", "db.shop.example")
    monkeypatch.setenv("PGDATABASE", "shop")
    config = online_store()
    assert (config.type, config.host, config.database, config.db_schema) == (
        "postgres",
        "db.shop.example",
        "shop",
        "feast",
    )


@pytest.mark.parametrize(
    ("adapter", "store"),
    [("duckdb", "duckdb"), ("postgrespython", "postgres"), ("sparkpython", "spark"), (None, "duckdb")],
)
def test_features_are_read_where_dbt_builds_them(
    adapter: str | None, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))
    if adapter:
        (tmp_path / "manifest.json").write_text(json.dumps({"metadata": {"adapter_type": adapter}}))
    assert WarehouseOfflineStoreConfig(type="inference.feature_store.stores.WarehouseOfflineStore").type == store


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder to which relative folders belong."""
    monkeypatch.setattr(home, "PROJECT_DIR", tmp_path)
    monkeypatch.setattr(stores, "PROJECT_DIR", tmp_path, raising=False)
    return tmp_path


def test_without_churn_home_the_default_is_filled_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHURN_HOME")
    assert online_store().path == str(project / ".churn" / "feast" / "online.db")


@pytest.mark.parametrize("folder", ["state", "var/state"])
def test_a_relative_churn_home_counts_from_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("CHURN_HOME", folder)
    assert online_store().path == str(project / folder / "feast" / "online.db")


def test_the_registry_lies_beside_it(churn_home: Path) -> None:
    path = os.path.expandvars("${CHURN_HOME}/feast/registry.db")
    store = HomeRegistryStore(RegistryConfig(path=path), Path("feature_repo"))
    assert store._filepath == churn_home / "feast" / "registry.db"


@pytest.mark.parametrize("written_by", ["this version", "an earlier version"])
def test_a_registry_names_the_home_that_it_lies_in(churn_home: Path, monkeypatch, written_by: str) -> None:
    def store() -> HomeRegistryStore:
        return HomeRegistryStore(RegistryConfig(path="${CHURN_HOME}/feast/registry.db"), Path("feature_repo"))

    def paths(registry: Registry) -> list[str]:
        view = registry.feature_views[0].spec
        sources = [view.batch_source, view.stream_source.batch_source]
        return [registry.infra.infra_objects[0].sqlite_table.path, *(source.file_options.uri for source in sources)]

    names = ("feast/online.db", "features/order_features.parquet", "published/scores.parquet")
    registry = Registry()
    registry.infra.infra_objects.add().sqlite_table.path = str(churn_home / names[0])
    view = registry.feature_views.add().spec
    view.batch_source.file_options.uri = str(churn_home / names[1])
    view.stream_source.batch_source.file_options.uri = str(churn_home / names[2])
    if written_by == "this version":
        store()._write_registry(registry)
        assert str(churn_home).encode() not in store()._filepath.read_bytes()
    else:
        store()._filepath.write_bytes(registry.SerializeToString())
    assert paths(registry) == paths(store().get_registry_proto()) == [str(churn_home / name) for name in names]
    moved = churn_home.rename(churn_home.with_name("moved"))
    monkeypatch.setenv("CHURN_HOME", str(moved))
    assert paths(store().get_registry_proto()) == [str(moved / name) for name in names]


class Planted:
    """A pickle that writes a file where it is read."""

    def __reduce__(self) -> tuple:
        return Path(os.environ["CHURN_HOME"], "planted").write_text, ("run",)


def test_code_in_a_registry_is_read_only_where_it_stands_in_the_definitions(churn_home: Path, caplog) -> None:
    def function(source: str, name: str = "churn_features", body: bytes = pickle.dumps(Planted())) -> bytes:
        registry = Registry()
        view = registry.on_demand_feature_views.add()
        view.spec.name, view.spec.mode = name, "python"
        code = view.spec.feature_transformation.user_defined_function
        code.name, code.body_text, code.body = "churn_features", source, body
        return registry.SerializeToString()

    store = HomeRegistryStore(RegistryConfig(path="${CHURN_HOME}/feast/registry.db"), Path("feature_repo"))
    definitions, start = (FEATURE_REPO / "definitions.py").read_text(), "    @on_demand_feature_view"
    own = start + definitions.split(start)[1].split('    views["churn_features"]')[0]
    foreign = "def churn_features(inputs):\n    open('planted', 'w')\n"
    store._filepath.write_bytes(
        function(own) + function(foreign, "source") + function("", "pickle") + function(foreign, "both", b"")
    )
    (view,) = store.get_registry_proto().on_demand_feature_views
    assert "without both, pickle, source, whose code is not in feature_repo: run feast apply" in caplog.text
    function_read = PythonTransformation.from_proto(view.spec.feature_transformation.user_defined_function)
    assert function_read.udf({"packed": [None]}) == {"features": [None]}
    assert not (churn_home / "planted").exists()
    registry = Registry()
    registry.ParseFromString(function(own))
    store._write_registry(registry)
    assert b"planted" not in store._filepath.read_bytes()
    assert store.get_registry_proto().on_demand_feature_views == [view]


@pytest.mark.parametrize(
    ("arguments", "auth", "refused"),
    [
        (["serve"], None, False),
        (["-c", "feature_repo", "serve", "-h", "0.0.0.0"], None, True),
        (["serve", "--host=192.168.1.7"], "no_auth", True),
        (["serve", "--host", "localhost"], None, False),
        (["serve", "--host", "0.0.0.0"], "oidc", False),
        (["ui"], None, True),
        (["ui", "--host", "127.0.0.1"], None, False),
        (["serve_registry", "--host", "127.0.0.1"], None, True),
        (["apply"], None, False),
    ],
)
def test_a_server_that_asks_nobody_for_a_key_stays_on_loopback(arguments, auth, refused):
    with pytest.raises(SystemExit) if refused else nullcontext() as error:
        refuse_open_server(arguments, auth)
    assert not refused or "would listen on" in str(error.value)


@pytest.mark.parametrize("command", ["apply", "materialize", "serve"])
def test_a_home_that_is_a_file_is_one_line(churn_home: Path, command: str) -> None:
    churn_home.write_text("a file")
    with pytest.raises(SystemExit, match=f"feast: {churn_home} is no folder; expected one: set CHURN_HOME"):
        prepare_home(["-c", "feature_repo", command])


def test_feasts_own_command_is_refused_before_it_listens():
    command = [Path(sys.executable).with_name("feast"), "-c", FEATURE_REPO, "serve", "-h", "0.0.0.0", "-p", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("feast serve would listen on 0.0.0.0 and let everybody read and write features")
