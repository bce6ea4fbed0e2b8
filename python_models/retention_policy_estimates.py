from inference.retention import value_policies


def model(dbt, session):
    versions = dbt.ref("int_newest_scores").aggregate("max(model_version)").fetchone()
    return value_policies(
        versions[0],
        dbt.ref("int_contact_outcomes").df(),
        dbt.ref("retention_actions_catalogue").df(),
        dbt.config.get("settings"),
    )
