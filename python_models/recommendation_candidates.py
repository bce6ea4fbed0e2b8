from inference.recommendations import recommend


def model(dbt, session):
    dbt.config(materialized="table")
    newest = dbt.ref("int_snapshot_dates").filter("is_newest").df().as_of_date
    dates = ", ".join(f"'{day:%Y-%m-%d}'" for day in newest) or "null"
    scored = dbt.ref("latest_scores").filter(f"as_of_date in ({dates}) and risk_band in ('high', 'critical')")
    return recommend(
        dbt.ref("int_product_purchases").to_arrow_table(),
        dbt.ref("int_products").df(),
        scored.df(),
        dbt.config.get("recommend_after_days"),
    )
