"""Feature tables, as contracts and ``meta.feast`` in dbt's manifest describe them, with Feast's types."""

from dataclasses import dataclass

from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from inference.warehouse.manifest import Manifest

#: Feast types by dbt data type; values of other types would change on their way through Feast, and are refused.
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

#: Key column of each entity that ``meta.feast.entity`` may name.
ENTITY_KEYS = {"customer": "customer_id", "text": "text_id", "shop": "shop_id"}


@dataclass(frozen=True)
class FeatureColumn:
    """A column of a feature table that is a feature."""

    name: str
    dtype: FeastType
    description: str
    vector_index: bool = False


@dataclass(frozen=True)
class FeatureTable:
    """A dbt model with ``meta.feast`` and an enforced contract."""

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


def read_feature_tables(manifest: Manifest) -> list[FeatureTable]:
    """Describe every model with ``meta.feast``.

    Parameters
    ----------
    manifest : Manifest
        dbt's manifest.

    Returns
    -------
    list of FeatureTable
        Sorted by name.

    Raises
    ------
    ChurnRadarError
        If there is no manifest.
    ValueError
        If a model has no enforced contract, an unknown entity or a column that is tagged ``pii: true``, or a column's
        data type is not one that Feast returns unchanged.
    """
    manifest.refuse_missing()
    return sorted((_feature_table(model) for model in manifest.feature_models), key=lambda table: table.name)


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
    # keys and times of a row are not features
    not_features = {ENTITY_KEYS[entity], "as_of_date", timestamp_field, created}
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
            if c["name"] not in not_features
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
