from inference.training.champion import Retraining, ensure_champion, last_monitoring
from inference.training.settings import TrainingSettings


def model(dbt, session):
    dbt.config(materialized="table")
    # read through Feast, from the Parquet that these tables export
    for _ in (dbt.ref("model_features"), dbt.ref("sequence_features")):
        pass
    labels = dbt.ref("churn_labels").df()
    encoder = dbt.ref("text_features").max("encoder_revision").fetchone()[0]
    # dbt finds the settings of a Python model by reading its text: each needs a call of its own
    settings = TrainingSettings.from_vars(
        dbt.config.get("transformer"), dbt.config.get("transformer_settings"), dbt.config.get("trials")
    )
    retraining = Retraining(
        dbt.config.get("retrain_windows"),
        dbt.config.get("retrain_drift_share"),
        dbt.config.get("snapshot_every_days"),
    )
    return ensure_champion(
        labels,
        dbt.config.get("horizon_days"),
        dbt.config.get("train"),
        encoder,
        settings,
        retraining,
        last_monitoring(session, str(dbt.this).rpartition(".")[0]),
    )
