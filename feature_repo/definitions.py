"""What Feast serves: two entities, a feature view per contracted dbt table, a few feature services.

Nothing is written down twice: names, types and descriptions come from dbt's manifest.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from manifest import ENTITY_KEYS, FeatureColumn, FeatureTable, default_manifest_path, read_feature_tables

from inference.home import home

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


def feature_view(table: FeatureTable) -> FeatureView:
    """Describe a dbt table to Feast; where rows are pushed as well, by a push source that stands before the file."""
    file = FileSource(
        name=f"{table.name}_parquet",
        path=str(home() / table.folder / f"{table.name}.parquet"),
        timestamp_field=table.timestamp_field,
        created_timestamp_column=table.created_timestamp_column or "",
    )
    return FeatureView(
        name=table.name,
        description=table.description,
        entities=[entities[table.entity]],
        ttl=TIME_TO_LIVE,
        schema=[field(column) for column in table.columns],
        source=PushSource(name=f"{table.name}_push", batch_source=file) if table.is_pushed else file,
    )


tables = read_feature_tables(default_manifest_path())
views = {table.name: feature_view(table) for table in tables}
globals().update(views)  # Feast collects the objects that a module holds by name

#: What each service, named in a table's ``meta.feast``, is for.
SERVICES = {
    "churn_model_v1": "The features that the churn model reads.",
    "churn_sequences_v1": "What its transformer reads besides: each customer's newest events and texts.",
    "churn_updates_v1": "What a score needs that follows events: what happened with a customer, and of the shop.",
    "churn_scores_v1": "Each customer's newest churn score with its reasons.",
    "newcomer_scores_v1": "Each newcomer's score and how much is known of it.",
    "similar_texts_v1": "What customers wrote, to be found by its likeness to other words.",
}
services = {
    name: FeatureService(
        name=name,
        features=[views[table.name] for table in tables if table.service == name],
        description=description,
    )
    for name, description in SERVICES.items()
}
globals().update(services)
