from inference.features.packing import pack_tables
from inference.features.snapshots import date_filter, snapshots_to_build


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date"])
    built = session.sql(f"select customer_id, as_of_date from {dbt.this}").df() if dbt.is_incremental else None
    snapshots = snapshots_to_build(dbt.ref("int_customer_snapshots").df(), built, dbt.config.get("lookback_days"))
    tables = {
        "campaign_features": dbt.ref("campaign_features"),
        "customer_features": dbt.ref("customer_features"),
        "engagement_features": dbt.ref("engagement_features"),
        "forecast_features": dbt.ref("forecast_features"),
        "order_features": dbt.ref("order_features"),
        "review_features": dbt.ref("review_features"),
        "support_features": dbt.ref("support_features"),
        "text_features": dbt.ref("text_features"),
    }
    tables = {name: table.filter(date_filter(snapshots)).df() for name, table in tables.items()}
    return pack_tables(snapshots, tables)
