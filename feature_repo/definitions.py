"""What Feast serves: two entities, a feature view per contracted dbt table, a few feature services.

Nothing is written down twice: names, types and descriptions come from dbt's manifest.
"""

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

#: A snapshot that is older than this does not describe the customer any more.
TIME_TO_LIVE = timedelta(days=35)


def field(column: FeatureColumn) -> Field:
    """Describe a column to Feast; vectors are compared by their cosine."""
    searched = {"vector_index": True, "vector_search_metric": "cosine"} if column.vector_index else {}
    return Field(name=column.name, dtype=column.dtype, description=column.description, **searched)


def batch_source(table: FeatureTable) -> DataSource:
    """Say where the rows of a dbt table are: in PostgreSQL where dbt builds there, else in exported Parquet."""
    times = {"timestamp_field": table.timestamp_field, "created_timestamp_column": table.created_timestamp_column or ""}
    if manifest.warehouse == "postgres":
        from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import PostgreSQLSource

        # the files of features have this column besides
        moment = ", cast(as_of_date as timestamp) as event_timestamp" if table.folder == "features" else ""
        rows = f'select *{moment} from "{postgres_schema()}"."{table.name}"'
        return PostgreSQLSource(name=f"{table.name}_table", query=rows, **times)
    file = str(home() / table.folder / f"{table.name}.parquet")
    if manifest.warehouse == "spark":
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

        return SparkSource(name=f"{table.name}_files", path=file, file_format="parquet", **times)
    return FileSource(name=f"{table.name}_parquet", path=file, **times)


def feature_view(table: FeatureTable) -> FeatureView:
    """Describe a dbt table to Feast; where rows are pushed as well, by a push source that stands before the file."""
    stored = batch_source(table)
    return FeatureView(
        name=table.name,
        description=table.description,
        entities=[entities[table.entity]],
        ttl=TIME_TO_LIVE,
        online=table.is_online,
        schema=[field(column) for column in table.columns],
        source=PushSource(name=f"{table.name}_push", batch_source=stored) if table.is_pushed else stored,
    )


tables = read_feature_tables(manifest)
views = {table.name: feature_view(table) for table in tables}
globals().update(views)  # Feast collects the objects that a module holds by name

if MODEL_VIEW in views:

    @on_demand_feature_view(
        sources=[views[MODEL_VIEW]],
        # Feast forgets what else a field of such a view says
        schema=[Field(name="features", dtype=Bytes)],
        mode="python",
        description="Features that change although nothing happens; the same function counts them for training.",
    )
    def churn_features(inputs: dict) -> dict:
        """Count to each row's event timestamp, which Feast hands over offline, or to now."""
        from inference.features.time_features import count_time

        return {"features": count_time(inputs["packed"], inputs.get("event_timestamp"))}

    views["churn_features"] = churn_features


#: What each service, named in a table's ``meta.feast``, is for.
SERVICES = {
    "churn_model_v1": "The features that the churn model reads, packed.",
    "churn_features_v1": "The same one by one, offline.",
    "churn_sequences_v1": "What its transformer reads besides: each customer's newest events and texts.",
    "churn_updates_v1": "What scores follow events by: what happened with each customer, features, the shop.",
    "churn_scores_v1": "Each customer's newest churn score with its reasons.",
    "newcomer_scores_v1": "Each newcomer's score and how much is known of it.",
    "similar_texts_v1": "What customers wrote, to be found by its likeness to other words.",
}
#: Names of the numbers that a packed row holds behind those of time, and the order in which the model has all of them.
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
#: A registry that has this tag need not be applied again.
project = Project(name="churn_radar", description="Churn Radar", tags={DEFINITIONS_TAG: definitions_fingerprint()})
