from inference.scoring.newcomers import score_newcomers


def model(dbt, session):
    dbt.config(materialized="table")
    return score_newcomers(dbt.ref("int_newcomers").df(), dbt.config.get("horizon_days"))
