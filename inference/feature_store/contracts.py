"""What dbt's manifest says of the features that the model reads."""

import json
from functools import lru_cache
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.features.time_features import TIME_FEATURES

#: Feast service of the tables whose numbers the model reads, by their ``meta.feast``.
PARTS_SERVICE = "churn_features_v1"
#: dbt data types of numbers.
NUMBERS = ("integer", "bigint", "double")


def warehouse(manifest_path: Path) -> str:
    """Name the warehouse that dbt builds in: ``duckdb``, also before the first build, ``postgres`` or ``spark``.

    Parameters
    ----------
    manifest_path : Path
        ``manifest.json``.
    """
    if not manifest_path.exists():
        return "duckdb"
    return _warehouse(manifest_path, manifest_path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _warehouse(manifest_path: Path, _written: int) -> str:
    adapter = json.loads(manifest_path.read_text()).get("metadata", {}).get("adapter_type", "duckdb")
    return adapter.removesuffix("python")


def model_columns(manifest_path: Path) -> list[str]:
    """Names of all numeric features that the model may read, in the order of the tables that have them.

    Parameters
    ----------
    manifest_path : Path
        ``manifest.json``, as ``dbt build`` and ``dbt parse`` write it.

    Raises
    ------
    ChurnRadarError
        If there is none.
    """
    if not manifest_path.exists():
        raise ChurnRadarError(f"{manifest_path}: no such file; run `dbt build` or `dbt parse` first")
    return list(_model_columns(manifest_path, manifest_path.stat().st_mtime_ns))


def packed_names(manifest_path: Path) -> list[str]:
    """Names of the numbers that ``model_features`` packs behind those of time, in their order.

    Parameters
    ----------
    manifest_path : Path
        ``manifest.json``.
    """
    return [name for name in model_columns(manifest_path) if name not in TIME_FEATURES]


@lru_cache(maxsize=1)
def _model_columns(manifest_path: Path, _written: int) -> tuple[str, ...]:
    nodes = json.loads(manifest_path.read_text())["nodes"].values()
    models = [n for n in nodes if n["resource_type"] == "model"]
    parts = [n for n in models if n["config"]["meta"].get("feast", {}).get("service") == PARTS_SERVICE]
    return tuple(
        column["name"]
        for part in sorted(parts, key=lambda node: node["name"])
        for column in part["columns"].values()
        if (column["data_type"] or "").lower() in NUMBERS
    )
