"""Which model scores: train when asked or when there is none, promote only what is better."""

from dataclasses import dataclass

import pandas as pd
from scipy.special import expit

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import log_losses
from inference.evaluation.paired_gain import paired_gain
from inference.feature_store import client as feature_store
from inference.model.churn_model import ChurnModel
from inference.model.level import anchored_shift, level_history
from inference.registry import registry
from inference.registry.registry import DamagedModelError, RegisteredModel
from inference.training.monitoring import Monitoring

#: Standard errors by which a challenger must be better: chance alone reaches that once in 700 times.
PROMOTION_ERRORS = 3.0


@dataclass(frozen=True)
class Retraining:
    """When ``churn__train: auto`` trains a challenger.

    Parameters
    ----------
    windows : int
        So many snapshots of the grid with a closed label window that the champion did not learn from.
    drift_share : float
        Share of the features that the champion reads which drifted beyond what is usual.
    """

    windows: int = 4
    drift_share: float = 0.1


def ensure_champion(
    labels: pd.DataFrame,
    horizon_days: int,
    train: str,
    encoder_revision: str | None = None,
    transformer: bool = True,
    trials: int = 0,
    retraining: Retraining | None = None,
    monitoring: Monitoring | None = None,
    snapshot_every_days: int = 7,
) -> pd.DataFrame:
    """Train where that is due and list all decisions.

    Parameters
    ----------
    labels : DataFrame
        ``churn_labels``; its newest ``as_of_date`` is the date that is asked for.
    horizon_days : int
        Length of the label window.
    train : str
        ``if_missing`` trains when no champion answers the horizon, ``auto`` also when one is out of date,
        ``always`` trains, ``never`` does not.
    encoder_revision : str, optional
        The encoder that read this shop's texts.
    transformer : bool
        Whether the transformer is tried.
    trials : int
        How many of its settings are tried.
    retraining : Retraining, optional
        When ``auto`` trains.
    monitoring : Monitoring, optional
        What the monitoring tables said.
    snapshot_every_days : int
        Distance of the snapshot grid.

    Returns
    -------
    DataFrame
        The table ``churn_model``: one row per decision.

    Raises
    ------
    ChurnRadarError
        If training is due and there is too little history, or not allowed and there is no champion; if the
        champion's files are damaged, unless training is asked for, which then replaces it.
    """
    feature_store.apply()
    if labels.empty:
        print("churn_model: the shop has no customer to learn from yet")
        return registry.versions()
    as_of_date = pd.to_datetime(labels.as_of_date).max().date()
    try:
        current = registry.champion(as_of_date)
        missing = _why_none_fits(current, horizon_days, encoder_revision)
    except DamagedModelError:
        if train != "always":
            raise
        current, missing = None, "the files of the champion were damaged"
    if train == "never" and missing:
        raise ChurnRadarError(f"churn__train is never, but {missing}; expected a champion: use if_missing")
    due = None
    if train == "auto" and not missing:
        due = why_due(current, labels, retraining or Retraining(), monitoring, snapshot_every_days)
        print(f"churn_model: {f'training, because {due}' if due else f'champion {current.version} is up to date'}")
    if train == "always" or missing or due:
        # what training needs takes seconds to import
        from inference.model.transformer.checkpoints import forget_checkpoints
        from inference.model.transformer.settings import TransformerSettings
        from inference.training import train as training

        rows = training_rows(labels)
        settings = training.TrainingSettings(transformer=TransformerSettings() if transformer else None, trials=trials)
        challenger = training.train(rows, horizon_days, settings, current.model if current and not missing else None)
        if not missing and (gone := sorted(set(current.model.reads) - set(rows.columns))):
            missing = f"the champion reads features that are gone: {', '.join(gone[:5])}"
        promote, reason = (True, missing) if missing else compare(current, challenger, rows)
        registry.register(challenger, promote, f"{due}: {reason}" if due else reason, as_of_date)
        forget_checkpoints()
    return registry.versions()


def why_due(
    current: RegisteredModel,
    labels: pd.DataFrame,
    retraining: Retraining,
    monitoring: Monitoring | None,
    snapshot_every_days: int,
) -> str | None:
    """Say why a challenger is due, or None where the champion is up to date.

    A challenger that was kept back is not tried again before another label window has closed: it would learn
    from the same rows.

    Parameters
    ----------
    current : RegisteredModel
        The champion.
    labels : DataFrame
        ``churn_labels``.
    retraining : Retraining
        Bands.
    monitoring : Monitoring or None
        What the monitoring tables said; it counts if it is about the champion.
    snapshot_every_days : int
        Distance of the snapshot grid.

    Returns
    -------
    str or None
    """
    newest = pd.to_datetime(labels.as_of_date[labels.churned.notna()]).max()
    history = registry.versions()
    since = (newest - pd.Timestamp(current.model.summary.last_snapshot)).days // snapshot_every_days
    tried = history[history.decision == "kept_back"]
    if pd.isna(newest) or (tried.last_snapshot >= newest).any():
        return None
    if since >= retraining.windows:
        return f"{since} label windows have closed since it was trained"
    if monitoring is None or monitoring.model_version != current.version or since < 1:
        return None
    if monitoring.drift_share is not None and monitoring.drift_share >= retraining.drift_share:
        return f"{monitoring.drift_share:.0%} of its features drifted"
    if monitoring.broken_promise is not None:
        return f"its AUROC was {monitoring.broken_promise:.4f} below what was promised"
    return None


def _why_none_fits(current: RegisteredModel | None, horizon_days: int, encoder_revision: str | None) -> str | None:
    if current is None:
        return "there was no champion"
    if current.model.horizon_days != horizon_days:
        return f"the champion answers {current.model.horizon_days} days, not {horizon_days}"
    if current.model.reads_words and encoder_revision not in (None, current.model.encoder_revision):
        return "the champion learned from texts by another encoder"
    return None


def compare(current: RegisteredModel, challenger: ChurnModel, rows: pd.DataFrame) -> tuple[bool, str]:
    """Decide whether a challenger becomes champion: only with lower log-loss on the same later rows, beyond chance.

    The later rows are the challenger's validation snapshots that begin after the last label window that
    the champion learned from; there the challenger's own predictions are out of time as well. Where there
    are none yet, both are judged by their own rolling validation on the rows that they share.

    Returns
    -------
    tuple of bool and str
        Whether to promote, and why.
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
    verdict = "below" if promote else "not clearly below"
    return promote, (
        f"log-loss {losses[0].mean():.5f}, {verdict} {losses[1].mean():.5f} of champion {current.version}, "
        f"{where.format(f'{len(ours):,}')} (difference {gain['mean']:.5f}, {gain['low']:.5f} to {gain['high']:.5f})"
    )


def training_rows(labels: pd.DataFrame) -> pd.DataFrame:
    """Join features and sequences to the labelled rows of ``churn_labels``.

    Raises
    ------
    ChurnRadarError
        If no snapshot is labelled yet.
    """
    known = labels[labels.churned.notna()]
    if known.empty:
        raise ChurnRadarError(
            "churn_labels: no snapshot has a whole activity window before it and a whole label window after it; "
            "expected at least one. Too little history to train: wait, or lower churn__activity_days or "
            "churn__horizon_days"
        )
    return feature_store.historical_features(known, feature_store.MODEL_SERVICE, feature_store.SEQUENCES_SERVICE)


def _probabilities(model: ChurnModel, rows: pd.DataFrame, as_of_date: pd.Timestamp) -> pd.DataFrame:
    """What a model would have said of a snapshot, at the level that it would have given it."""
    snapshot = rows[pd.to_datetime(rows.as_of_date) == as_of_date]
    logit = model.logit(*model.inputs(snapshot))
    history = level_history(rows, model.horizon_days)
    shift = anchored_shift(model.anchor, as_of_date, history, logit, snapshot.no_order_probability)
    return snapshot[["customer_id", "as_of_date"]].assign(probability=expit(logit + shift))
