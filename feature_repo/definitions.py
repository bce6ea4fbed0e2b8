"""Feast's definitions: entities, a feature view per dbt model with ``meta.feast``, and feature services.

Names, types and descriptions come from dbt's manifest.
"""

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, PushSource, ValueType
from feast.data_source import DataSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bytes
from feature_tables import ENTITY_KEYS, FeatureColumn, FeatureTable, read_feature_tables

from inference.feature_store.client import DEFINITIONS_TAG, MODEL_SERVICE, MODEL_VIEW, definitions_fingerprint
from inference.home import home, postgres_schema
from inference.warehouse.manifest import Manifest

manifest = Manifest.load()
customer = Entity(
    name="customer",
    join_keys=[ENTITY_KEYS["customer"]],
    value_type=ValueType.STRING,
    description="A customer of the shop.",
)
text = Entity(
    name="text",
    join_keys=[ENTITY_KEYS["text"]],
    value_type=ValueType.STRING,
    description="A review or support ticket with words.",
)
shop = Entity(
    name="shop",
    join_keys=[ENTITY_KEYS["shop"]],
    value_type=ValueType.STRING,
    description="The shop as a whole.",
)
entities = {entity.name: entity for entity in (customer, text, shop)}

#: Feast returns null for snapshots that are older than this.
TIME_TO_LIVE = timedelta(days=35)


def field(column: FeatureColumn) -> Field:
    """Return the field of a column; vectors are searched by cosine."""
    search = {"vector_index": True, "vector_search_metric": "cosine"} if column.vector_index else {}
    return Field(name=column.name, dtype=column.dtype, description=column.description, **search)


def batch_source(table: FeatureTable) -> DataSource:
    """Return where the rows of a dbt model are: a table in PostgreSQL, else exported Parquet files."""
    times = {"timestamp_field": table.timestamp_field, "created_timestamp_column": table.created_timestamp_column or ""}
    if manifest.warehouse == "postgres":
        from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource

        # a column of the exported files that the tables do not have
        moment = ", cast(as_of_date as timestamp) as event_timestamp" if table.folder == "features" else ""
        rows = f'select *{moment} from "{postgres_schema()}"."{table.name}"'
        return PostgreSQLSource(name=f"{table.name}_table", query=rows, **times)
    file = str(home() / table.folder / f"{table.name}.parquet")
    if manifest.warehouse == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

        return SparkSource(name=f"{table.name}_files", path=file, file_format="parquet", **times)
    return FileSource(name=f"{table.name}_parquet", path=file, **times)


def is_online(table: FeatureTable) -> bool:
    """Whether rows go to the online store: not to Redis where they serve for vector search, which it does not have."""
    is_searched = any(column.vector_index for column in table.columns)
    return table.is_online and not (is_searched and os.environ.get("CHURN_REDIS"))


def feature_view(table: FeatureTable) -> FeatureView:
    """Return the view of a dbt model; where applications push rows too, its source is a push source."""
    source = batch_source(table)
    return FeatureView(
        name=table.name,
        description=table.description,
        entities=[entities[table.entity]],
        ttl=TIME_TO_LIVE,
        online=is_online(table),
        schema=[field(column) for column in table.columns],
        source=PushSource(name=f"{table.name}_push", batch_source=source) if table.is_pushed else source,
    )


tables = read_feature_tables(manifest)
views = {table.name: feature_view(table) for table in tables}
globals().update(views)  # Feast collects the module's global variables

if MODEL_VIEW in views:

    @on_demand_feature_view(
        sources=[views[MODEL_VIEW]],
        # Feast drops the description of a field here
        schema=[Field(name="features", dtype=Bytes)],
        mode="python",
        description="Time features, which change every day; training computes them by the same function.",
    )
    def churn_features(inputs: dict) -> dict:
        """Compute time features as of each row's event timestamp, which Feast passes offline, or as of now."""
        from inference.features.time_features import count_time

        return {"features": count_time(inputs["packed"], inputs.get("event_timestamp"))}

    views["churn_features"] = churn_features


#: Purpose of each feature service that ``meta.feast`` may name.
SERVICES = {
    "churn_model_v1": "Features of the churn model, packed into one field.",
    "churn_features_v1": "The same features one by one, offline.",
    "churn_sequences_v1": "Each customer's newest events and texts, for the model's transformer.",
    "churn_updates_v1": "Histories, features and shop averages, to score a customer again after an event.",
    "churn_scores_v1": "Each customer's newest churn score with its reasons.",
    "newcomer_scores_v1": "Each newcomer's score and how much history it is based on.",
    "similar_texts_v1": "Reviews and tickets with embeddings, for search by meaning.",
}
#: Names of the features packed behind the time features, and of all features in the model's order.
PACKED = {
    "numbers": ",".join(manifest.packed_names),
    "columns": ",".join(manifest.model_columns),
}
members = {name: [table.name for table in tables if table.service == name] for name in SERVICES}
if MODEL_VIEW in views:
    members[MODEL_SERVICE].append("churn_features")
services = {
    name: FeatureService(
        name=name,
        features=[views[view] for view in members[name]],
        tags=PACKED if name == MODEL_SERVICE else {},
        description=description,
    )
    for name, description in SERVICES.items()
}
globals().update(services)
#: `feast apply` is skipped while the registry has this tag.
project = Project(name="churn_radar", description="Churn Radar", tags={DEFINITIONS_TAG: definitions_fingerprint()})
