"""Which numbers the model reads, and in which order, is what the manifest says."""

import json
import os
from pathlib import Path

import pytest

from inference.errors import ChurnRadarError
from inference.feature_store.contracts import model_columns, packed_names


def write(path: Path, **models: tuple[str, dict[str, str]]) -> Path:
    """A manifest of models: service, and data types by column."""
    nodes = {
        f"model.shop.{name}": {
            "resource_type": "model",
            "name": name,
            "config": {"meta": {"feast": {"service": service}} if service else {}},
            "columns": {c: {"name": c, "data_type": kind} for c, kind in columns.items()},
        }
        for name, (service, columns) in models.items()
    }
    path.write_text(json.dumps({"nodes": nodes | {"seed.shop.s": {"resource_type": "seed", "config": {"meta": {}}}}}))
    return path


def test_numbers_of_feature_tables_come_in_the_order_of_the_tables(tmp_path):
    manifest = write(
        tmp_path / "manifest.json",
        text_features=("churn_features_v1", {"customer_id": "varchar", "texts_60d": "bigint", "embedding": "float[]"}),
        order_features=(
            "churn_features_v1",
            {"spend_90d": "DOUBLE", "days_since_last_order": "bigint", "vip": "boolean"},
        ),
        churn_scores=("churn_scores_v1", {"churn_probability": "double"}),
        churn_labels=("", {"churned": "integer"}),
    )
    assert model_columns(manifest) == ["spend_90d", "days_since_last_order", "texts_60d"]
    assert packed_names(manifest) == ["spend_90d", "texts_60d"]  # time is counted, and packed in its own place


def test_another_manifest_in_its_place_is_read_anew(tmp_path):
    manifest = write(tmp_path / "manifest.json", a=("churn_features_v1", {"x": "double"}))
    assert model_columns(manifest) == ["x"]
    write(manifest, a=("churn_features_v1", {"x": "double", "y": "integer"}))
    os.utime(manifest, ns=(1, 1))
    assert model_columns(manifest) == ["x", "y"]


def test_a_missing_manifest_is_told_in_one_line(tmp_path):
    with pytest.raises(ChurnRadarError, match=r"manifest\.json: no such file; run `dbt build` or `dbt parse` first"):
        model_columns(tmp_path / "manifest.json")
