from inference.features.purchase_forecasts import forecast_purchases
from inference.features.snapshots import date_filter, snapshots_to_build


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date"])
    built = session.sql(f"select customer_id, as_of_date from {dbt.this}").df() if dbt.is_incremental else None
    snapshots = snapshots_to_build(dbt.ref("int_customer_snapshots").df(), built, dbt.config.get("lookback_days"))
    histories = dbt.ref("int_purchase_histories").filter(date_filter(snapshots)).df()
    return forecast_purchases(histories, dbt.config.get("horizon_days"))
