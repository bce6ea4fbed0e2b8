from inference.scoring.batch import score_newest_snapshot


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date", "model_version"])
    dbt.ref("churn_model")  # trained before anybody is scored
    return score_newest_snapshot(
        dbt.ref("int_customer_snapshots").df(), dbt.ref("churn_labels").df(), dbt.config.get("allow_empty")
    )
