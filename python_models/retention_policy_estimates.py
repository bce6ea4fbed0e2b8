from inference.decisions.policies import value_policies


def model(dbt, session):
    newest = dbt.ref("int_newest_scores").aggregate("max(model_version), max(as_of_date)").fetchone()
    return value_policies(
        None if newest[0] is None else newest,
        dbt.ref("int_contact_outcomes").df(),
        dbt.ref("retention_actions_catalogue").df(),
        dbt.config.get("settings"),
    )
