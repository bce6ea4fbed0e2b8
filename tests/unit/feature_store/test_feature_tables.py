import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from inference.errors import ChurnRadarError
from inference.warehouse.manifest import Manifest

FEATURE_REPO = Path(__file__).resolve().parents[3] / "feature_repo"


@pytest.fixture(scope="module")
def feature_tables() -> ModuleType:
    """feature_repo is a folder that Feast reads, not a package."""
    spec = importlib.util.spec_from_file_location("feature_tables", FEATURE_REPO / "feature_tables.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_model(name: str = "order_features", **changes: object) -> dict:
    """A model as dbt's manifest describes it."""
    types = {
        "customer_id": "varchar",
        "as_of_date": "date",
        "event_timestamp": "timestamp",
        "orders_30d": "bigint",
    }
    return {
        "resource_type": "model",
        "name": name,
        "description": "What each customer buys.",
        "config": {
            "contract": {"enforced": changes.get("enforced", True)},
            "meta": {"feast": {"service": "churn_model_v1"} | changes.get("feast", {})},
        },
        "columns": {
            column: {"name": column, "data_type": data_type, "description": f"About {column}."}
            for column, data_type in (types | changes.get("types", {})).items()
        },
    }


def make_plain_model() -> dict:
    """A model that Feast does not serve."""
    return make_model("stg_orders") | {"config": {"contract": {"enforced": False}, "meta": {}}}


def write_manifest(folder: Path, *nodes: dict) -> Manifest:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"nodes": {f"{n['resource_type']}.shop.{n['name']}": n for n in nodes}}))
    return Manifest(path)


def test_a_table_is_read_as_the_contract_describes_it(feature_tables: ModuleType, tmp_path: Path) -> None:
    (table,) = feature_tables.read_feature_tables(write_manifest(tmp_path, make_model()))
    assert table.name == "order_features"
    assert table.description == "What each customer buys."
    assert table.service == "churn_model_v1"
    assert table.folder == "features"
    assert table.timestamp_field == "event_timestamp"
    assert table.created_timestamp_column is None


@pytest.mark.parametrize("where", ["meta", "config"])
def test_a_personal_column_is_refused(feature_tables: ModuleType, tmp_path: Path, where: str) -> None:
    model = make_model(types={"email": "varchar"})
    tag = {"meta": {"pii": True}}
    model["columns"]["email"] |= tag if where == "meta" else {"config": tag}
    with pytest.raises(ValueError, match=r"^order_features: email tagged pii; expected no personal column in Feast$"):
        feature_tables.read_feature_tables(write_manifest(tmp_path, model))


def test_keys_and_timestamps_are_not_features(feature_tables: ModuleType, tmp_path: Path) -> None:
    (table,) = feature_tables.read_feature_tables(write_manifest(tmp_path, make_model()))
    assert [(c.name, c.dtype, c.description) for c in table.columns] == [("orders_30d", Int64, "About orders_30d.")]


def test_a_table_may_name_its_folder_and_timestamps(feature_tables: ModuleType, tmp_path: Path) -> None:
    model = make_model(
        "churn_scores",
        feast={
            "service": "churn_scores_v1",
            "folder": "published",
            "timestamp_field": "feature_snapshot_at",
            "created_timestamp_column": "scored_at",
        },
        types={"feature_snapshot_at": "timestamp", "scored_at": "timestamp"},
    )
    (table,) = feature_tables.read_feature_tables(write_manifest(tmp_path, model))
    assert (table.folder, table.service) == ("published", "churn_scores_v1")
    assert (table.timestamp_field, table.created_timestamp_column) == ("feature_snapshot_at", "scored_at")
    assert [column.name for column in table.columns] == ["event_timestamp", "orders_30d"]


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        ("varchar", String),
        ("integer", Int32),
        ("bigint", Int64),
        ("double", Float64),
        ("boolean", Bool),
        ("timestamp", UnixTimestamp),
        ("float[]", Array(Float32)),
        ("DOUBLE", Float64),
    ],
)
def test_types_that_come_back_unchanged(
    feature_tables: ModuleType, tmp_path: Path, data_type: str, expected: object
) -> None:
    (table,) = feature_tables.read_feature_tables(write_manifest(tmp_path, make_model(types={"value": data_type})))
    assert {column.name: column.dtype for column in table.columns}["value"] == expected


@pytest.mark.parametrize("data_type", ["decimal(18,2)", "numeric", "float", "date", "double[]", "json", "hugeint", ""])
def test_any_other_type_is_refused_by_name(feature_tables: ModuleType, tmp_path: Path, data_type: str) -> None:
    path = write_manifest(tmp_path, make_model(types={"value": data_type}))
    with pytest.raises(ValueError, match="cannot be served unchanged") as caught:
        feature_tables.read_feature_tables(path)
    assert str(caught.value).startswith(f"order_features.value: data type {data_type} cannot")
    assert "expected one of varchar, integer, bigint, double, boolean, timestamp, float[]" in str(caught.value)


def test_a_table_without_an_enforced_contract_is_refused(feature_tables: ModuleType, tmp_path: Path) -> None:
    path = write_manifest(tmp_path, make_model(enforced=False))
    with pytest.raises(ValueError, match=r"order_features: meta\.feast needs an enforced contract"):
        feature_tables.read_feature_tables(path)


def test_only_models_that_ask_for_it_are_served_sorted_by_name(feature_tables: ModuleType, tmp_path: Path) -> None:
    test = make_model("not_null_orders") | {"resource_type": "test"}
    path = write_manifest(tmp_path, make_model("b"), test, make_plain_model(), make_model("a"))
    assert [table.name for table in feature_tables.read_feature_tables(path)] == ["a", "b"]


def test_a_missing_manifest_says_how_to_make_it(feature_tables: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ChurnRadarError, match=r"manifest\.json: no such file; run `dbt build` or `dbt parse` first"):
        feature_tables.read_feature_tables(Manifest(tmp_path / "manifest.json"))


def test_a_table_of_texts_has_their_key_and_a_vector_that_is_searched(
    feature_tables: ModuleType, tmp_path: Path
) -> None:
    feast = {"entity": "text", "service": "similar_texts_v1", "vector": "embedding"}
    types = {"text_id": "varchar", "embedding": "float[]"}
    (table,) = feature_tables.read_feature_tables(
        write_manifest(tmp_path, make_model("texts", feast=feast, types=types))
    )
    assert table.entity == "text"
    assert {column.name: column.vector_index for column in table.columns} == {
        "customer_id": False,
        "orders_30d": False,
        "embedding": True,
    }


def test_an_unknown_entity_is_refused_with_the_known_ones(feature_tables: ModuleType, tmp_path: Path) -> None:
    path = write_manifest(tmp_path, make_model(feast={"entity": "basket"}))
    with pytest.raises(
        ValueError, match=r"order_features: meta\.feast\.entity is basket; expected one of customer, text, shop"
    ):
        feature_tables.read_feature_tables(path)
