from inference.forecasts import forecast_purchases


def model(dbt, session):
    dbt.config(materialized="table")
    histories = dbt.ref("int_purchase_histories").df()
    return forecast_purchases(histories, dbt.config.get("horizon_days"))
