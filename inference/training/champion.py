"""Champion and challenger: when a model is trained, and whether it replaces the one that scores."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import log_losses, paired_gain
from inference.feature_store import client
from inference.model.churn_model import ChurnModel
from inference.model.level import anchored_shift, level_history
from inference.registry import registry
from inference.registry.registry import DamagedModelError, RegisteredModel
from inference.training.rows import training_rows
from inference.training.settings import TrainingSettings

if TYPE_CHECKING:  # PostgreSQL and Spark have sessions of their own with the same methods
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

#: Standard errors by which a challenger's log-loss must be lower; by chance alone that happens once in 700 times.
PROMOTION_ERRORS = 3.0
NO_CHAMPION = "the shop had no champion yet"


@dataclass(frozen=True)
class Retraining:
    """When ``churn__train: auto`` trains a challenger."""

    windows: int = 4  # snapshots of the grid whose label windows closed since the champion's training
    drift_share: float = 0.1  # of the champion's features, with unusual drift
    snapshot_every_days: int = 7  # distance of the snapshot grid


@dataclass(frozen=True)
class Monitoring:
    """Drift and performance of the version that scored last."""

    model_version: str
    drift_share: float | None = None  # of its features, with unusual drift at the newest date, where it was measured
    #: Drop of its AUROC at the newest date with known outcomes below that of its validation, where it is significant
    #: and above ``churn__auroc_drop_limit``.
    auroc_drop: float | None = None


def ensure_champion(
    labels: pd.DataFrame,
    horizon_days: int,
    train: str,
    encoder_revision: str | None = None,
    settings: TrainingSettings | None = None,
    retraining: Retraining | None = None,
    monitoring: Monitoring | None = None,
) -> pd.DataFrame:
    """Train a model where that is due; return the table ``churn_model``, one row per decision about models.

    Parameters
    ----------
    labels : DataFrame
        ``churn_labels``; its newest ``as_of_date`` is the scoring date.
    horizon_days : int
        Length of the label window.
    train : str
        ``if_missing`` trains when no champion fits the horizon and the encoder, ``auto`` also when the champion is out
        of date, ``always`` trains, ``never`` does not.
    encoder_revision : str, optional
        Revision of the encoder that embedded this shop's texts.
    settings, retraining
        How to train, and when ``auto`` does.
    monitoring : Monitoring, optional
        Monitoring tables of the last build.

    Raises
    ------
    ChurnRadarError
        If training is due and there is too little history, or not allowed and there is no champion; if the
        champion's files are damaged, unless ``train`` is ``always``, which replaces it.
    """
    client.apply()
    if labels.empty:
        logger.info("churn_model: the shop has no customer to learn from yet")
        return registry.versions()
    as_of_date = pd.to_datetime(labels.as_of_date).max().date()
    try:
        current = registry.champion(as_of_date)
        missing = why_none_fits(current, horizon_days, encoder_revision, settings or TrainingSettings())
    except DamagedModelError:
        if train != "always":
            raise
        current, missing = None, "the files of the champion were damaged"
    if train == "never" and missing:
        raise ChurnRadarError(f"churn__train is never, but {missing}; expected a champion: use if_missing")
    due = None
    if train == "auto" and current is not None and not missing:
        due = why_due(current, labels, retraining or Retraining(), monitoring)
        state = f"training, because {due}" if due else f"champion {current.version} is up to date"
        logger.info("churn_model: %s", state)
    if train == "always" or missing or due:
        # the libraries of training take seconds to import
        from inference.model.transformer.checkpoints import forget_checkpoints

        challenger, promote, reason = _challenge(current, missing, labels, horizon_days, settings)
        registry.register(challenger, promote, f"{due}: {reason}" if due else reason, as_of_date)
        forget_checkpoints()
    return registry.versions()


def _challenge(
    current: RegisteredModel | None,
    missing: str | None,
    labels: pd.DataFrame,
    horizon_days: int,
    settings: TrainingSettings | None,
) -> tuple[ChurnModel, bool, str]:
    """Train a model; return it, whether to promote it, and why.

    ``missing`` is the reason why no champion can score; then the new model is promoted without a comparison.
    """
    from inference.training.train import train

    rows = training_rows(labels)
    if current is None or missing:
        return train(rows, horizon_days, settings), True, missing or NO_CHAMPION
    challenger = train(rows, horizon_days, settings, current.model)
    if gone := sorted(set(current.model.reads) - set(rows.columns)):
        return challenger, True, f"the champion reads features that are gone: {', '.join(gone[:5])}"
    return challenger, *compare(current, challenger, rows)


def why_due(
    current: RegisteredModel, labels: pd.DataFrame, retraining: Retraining, monitoring: Monitoring | None
) -> str | None:
    """Return why a challenger is due, or None where the champion is up to date.

    A challenger that was kept back is not tried again before another label window has closed: it would learn
    from the same rows. Monitoring of another version is ignored.
    """
    newest = pd.to_datetime(labels.as_of_date[labels.churned.notna()]).max()
    history = registry.versions()
    days = (newest - pd.Timestamp(current.model.summary.last_snapshot)).days
    since = days // retraining.snapshot_every_days
    kept_back = history[history.decision == "kept_back"]
    if pd.isna(newest) or (kept_back.last_snapshot >= newest).any():
        return None
    if since >= retraining.windows:
        return f"{since} label windows have closed since it was trained"
    if monitoring is None or monitoring.model_version != current.version or since < 1:
        return None
    if monitoring.drift_share is not None and monitoring.drift_share >= retraining.drift_share:
        return f"{monitoring.drift_share:.0%} of its features drifted"
    if monitoring.auroc_drop is not None:
        return f"its AUROC was {monitoring.auroc_drop:.4f} below that of its validation"
    return None


def why_none_fits(
    current: RegisteredModel | None, horizon_days: int, encoder_revision: str | None, settings: TrainingSettings
) -> str | None:
    """Return why the champion cannot score, or None where it can."""
    if current is None:
        return NO_CHAMPION
    if current.model.horizon_days != horizon_days:
        return f"the champion predicts {current.model.horizon_days} days, not {horizon_days}"
    if current.model.reads_embeddings and encoder_revision not in (None, current.model.encoder_revision):
        return "the champion learned from texts by another encoder"
    if current.model.transformer is not None and settings.transformer is None:
        return "the champion has a transformer, and churn__transformer is false"
    return None


def compare(current: RegisteredModel, challenger: ChurnModel, rows: pd.DataFrame) -> tuple[bool, str]:
    """Decide whether a challenger becomes champion: only with a significantly lower log-loss on the same later rows.

    The later rows are the challenger's validation snapshots after the last label window that the champion was trained
    on, where both predict out of time. Where there are none yet, both are compared by their own rolling validations
    on the rows that they share. Returned are whether to promote, and why.
    """
    key = ["customer_id", "as_of_date"]
    ours, theirs = challenger.validation, current.model.validation
    if ours is None:
        return False, f"no later rows to compare with champion {current.version}"
    ours = ours.assign(as_of_date=pd.to_datetime(ours.as_of_date))
    learned_until = pd.Timestamp(current.model.summary.last_snapshot) + pd.Timedelta(days=current.model.horizon_days)
    if (ours.as_of_date >= learned_until).any():
        ours = ours[ours.as_of_date >= learned_until]
        theirs = pd.concat([_probabilities(current.model, rows, date) for date in sorted(ours.as_of_date.unique())])
        where = "on {} predictions of later snapshots"
    else:
        where = "in rolling validation on {} shared predictions"
    if theirs is not None:
        theirs = theirs.assign(as_of_date=pd.to_datetime(theirs.as_of_date))
        ours = ours.merge(theirs[[*key, "probability"]], on=key, suffixes=("", "_champion"))
    if theirs is None or ours.empty:
        return False, f"no later rows to compare with champion {current.version}"
    losses = [log_losses(ours.churned, ours[p]) for p in ("probability", "probability_champion")]
    gain = paired_gain(losses[1] - losses[0], ours.customer_id.to_numpy(), PROMOTION_ERRORS)
    promote = gain["low"] > 0
    comparison = "below" if promote else "not clearly below"
    return promote, (
        f"log-loss {losses[0].mean():.5f}, {comparison} {losses[1].mean():.5f} of champion {current.version}, "
        f"{where.format(f'{len(ours):,}')} (difference {gain['mean']:.5f}, {gain['low']:.5f} to {gain['high']:.5f})"
    )


def _probabilities(model: ChurnModel, rows: pd.DataFrame, as_of_date: pd.Timestamp) -> pd.DataFrame:
    """Probabilities that a model would have given a snapshot, at the level of its anchor."""
    snapshot = rows[pd.to_datetime(rows.as_of_date) == as_of_date]
    logit = model.logit(*model.inputs(snapshot))
    history = level_history(rows, model.horizon_days)
    shift = anchored_shift(model.anchor, as_of_date, history, logit, snapshot.no_order_probability)
    return snapshot[["customer_id", "as_of_date"]].assign(probability=expit(logit + shift))


def last_monitoring(session: "DuckDBPyConnection", schema: str) -> Monitoring | None:
    """Read ``churn_feature_drift`` and ``churn_model_performance`` as the last build left them; None before the first.

    This build replaces them after scoring, so a dbt reference to them would be a cycle. ``schema`` is SQL, with its
    database where the warehouse has several.
    """
    name = schema.rpartition(".")[2].strip('"')
    tables = session.sql(
        f"select table_name from information_schema.tables where table_schema = '{name}' "
        "and table_name in ('churn_feature_drift', 'churn_model_performance')"
    ).df()
    if len(tables) < 2:
        return None
    drift = session.sql(
        "select model_version, avg(case when is_unusual then 1e0 else 0e0 end) as drift_share "
        f"from {schema}.churn_feature_drift where is_read group by model_version, as_of_date "
        "order by as_of_date desc, cast(model_version as integer) desc limit 1"
    ).df()
    if drift.empty:
        return None
    version = str(drift.model_version[0])
    performance = session.sql(
        f"select auroc_below_promise, breaks_promise from {schema}.churn_model_performance "
        f"where model_version = '{version}' order by as_of_date desc limit 1"
    ).fetchone()
    drop, broken = performance or (None, None)
    return Monitoring(version, float(drift.drift_share[0]), drop if broken else None)
