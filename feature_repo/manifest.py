"""Feature tables as dbt's manifest describes them: contracts and ``meta.feast``."""

import json
from dataclasses import dataclass
from pathlib import Path

from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

#: dbt data types that come back from Feast unchanged; anything else is refused, never guessed.
FEAST_TYPES: dict[str, FeastType] = {
    "varchar": String,
    "integer": Int32,
    "bigint": Int64,
    "double": Float64,
    "boolean": Bool,
    "timestamp": UnixTimestamp,
    "float[]": Array(Float32),
    "blob": Bytes,
    "varchar[]": Array(String),
}

#: Whose rows a table holds, by ``meta.feast.entity``, and the column that says so.
ENTITY_KEYS = {"customer": "customer_id", "text": "text_id", "shop": "shop_id"}


@dataclass(frozen=True)
class FeatureColumn:
    """A column that Feast serves."""

    name: str
    dtype: FeastType
    description: str
    vector_index: bool = False


@dataclass(frozen=True)
class FeatureTable:
    """A contracted dbt model with ``meta.feast``."""

    name: str
    description: str
    entity: str
    service: str
    folder: str
    timestamp_field: str
    created_timestamp_column: str | None
    is_pushed: bool
    is_online: bool
    columns: tuple[FeatureColumn, ...]


def read_feature_tables(manifest_path: Path) -> list[FeatureTable]:
    """Read every model with ``meta.feast`` from a dbt manifest.

    Parameters
    ----------
    manifest_path : Path
        ``manifest.json``, as ``dbt build`` and ``dbt parse`` write it.

    Returns
    -------
    list of FeatureTable
        Sorted by name.

    Raises
    ------
    ValueError
        If the manifest is missing, a model has no enforced contract, an unknown entity or a column that is tagged
        ``pii: true``, or a column's type is not one that Feast returns unchanged.
    """
    if not manifest_path.exists():
        raise ValueError(f"{manifest_path}: no such file; run `dbt build` or `dbt parse` first")
    nodes = json.loads(manifest_path.read_text())["nodes"].values()
    models = [n for n in nodes if n["resource_type"] == "model" and "feast" in n["config"]["meta"]]
    return sorted((_feature_table(model) for model in models), key=lambda table: table.name)


def _feature_table(model: dict) -> FeatureTable:
    name, settings = model["name"], model["config"]["meta"]["feast"]
    if not model["config"]["contract"]["enforced"]:
        raise ValueError(f"{name}: meta.feast needs an enforced contract, so that types are known")
    entity = settings.get("entity", "customer")
    if entity not in ENTITY_KEYS:
        raise ValueError(f"{name}: meta.feast.entity is {entity}; expected one of {', '.join(ENTITY_KEYS)}")
    timestamp_field = settings.get("timestamp_field", "event_timestamp")
    created = settings.get("created_timestamp_column")
    if personal := [c["name"] for c in model["columns"].values() if _is_personal(c)]:
        raise ValueError(f"{name}: {', '.join(personal)} tagged pii; expected no personal column in Feast")
    # these say whose row it is and of when, not what is known
    left_out = {ENTITY_KEYS[entity], "as_of_date", timestamp_field, created}
    return FeatureTable(
        name=name,
        description=model["description"],
        entity=entity,
        service=settings["service"],
        folder=settings.get("folder", "features"),
        timestamp_field=timestamp_field,
        created_timestamp_column=created,
        is_pushed=settings.get("push", False),
        is_online=settings.get("online", True),
        columns=tuple(
            FeatureColumn(c["name"], _feast_type(name, c), c["description"], c["name"] == settings.get("vector"))
            for c in model["columns"].values()
            if c["name"] not in left_out
        ),
    )


def _is_personal(column: dict) -> bool:
    return ((column.get("config") or {}).get("meta") or column.get("meta") or {}).get("pii") is True


def _feast_type(model: str, column: dict) -> FeastType:
    try:
        return FEAST_TYPES[(column["data_type"] or "").lower()]
    except KeyError:
        raise ValueError(
            f"{model}.{column['name']}: data type {column['data_type']} cannot be served unchanged; "
            f"expected one of {', '.join(FEAST_TYPES)}"
        ) from None
