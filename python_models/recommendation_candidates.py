from inference.recommendations.recommend import recommend


def model(dbt, session):
    dbt.config(materialized="table")
    newest = dbt.ref("int_snapshot_dates").filter("is_newest").df().as_of_date
    as_of_date = f"cast('{newest[0]:%Y-%m-%d}' as date)" if len(newest) else "null"
    contacts = f"as_of_date = {as_of_date} and action = 'recommendation'"
    return recommend(
        dbt.ref("int_product_purchases").to_arrow_table(),
        dbt.ref("int_products").filter(f"known_at < {as_of_date}").df(),
        dbt.ref("retention_actions").filter(contacts).df(),
        dbt.config.get("recommend_after_days"),
    )
