from inference.training.drift_reference import new_references


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["model_version", "feature", "bin"])
    dbt.ref("churn_model")  # registered before it is read
    stored = None
    if dbt.is_incremental:
        stored = session.sql(f"select distinct model_version from {dbt.this}").df().model_version
    return new_references(stored)
