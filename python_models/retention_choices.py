from inference.decisions.decide import decide


def model(dbt, session):
    dbt.config(materialized="incremental", unique_key=["customer_id", "as_of_date"])
    return decide(
        dbt.ref("int_newest_scores").df(),
        dbt.ref("int_contact_outcomes").df(),
        dbt.ref("retention_actions_catalogue").df(),
        dbt.config.get("settings"),
    )
