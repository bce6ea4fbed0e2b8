"""Which model scores: train when asked or when there is none, promote only what is better."""

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import log_loss

from inference import feature_store, registry, training
from inference.calibration import anchored_shift
from inference.checkpoints import forget_checkpoints
from inference.ensemble import ChurnModel
from inference.errors import ChurnRadarError
from inference.registry import DamagedModelError, RegisteredModel
from inference.training import TrainingSettings, level_history
from inference.transformer_settings import TransformerSettings


def ensure_champion(
    labels: pd.DataFrame,
    horizon_days: int,
    train: str,
    encoder_revision: str | None = None,
    transformer: bool = True,
    trials: int = 0,
) -> pd.DataFrame:
    """Train where that is due and list all versions.

    Parameters
    ----------
    labels : DataFrame
        ``churn_labels``.
    horizon_days : int
        Length of the label window.
    train : str
        ``if_missing`` trains when no champion answers the horizon, ``always`` trains, ``never`` does not.
    encoder_revision : str, optional
        The encoder that read this shop's texts.
    transformer : bool
        Whether the transformer is tried.
    trials : int
        How many of its settings are tried.

    Returns
    -------
    DataFrame
        The table ``churn_model``: one row per version.

    Raises
    ------
    ChurnRadarError
        If training is due and there is too little history, or not allowed and there is no champion; if the
        champion's files are damaged, unless training is asked for, which then replaces it.
    """
    feature_store.apply()
    try:
        current = registry.champion()
        missing = _why_none_fits(current, horizon_days, encoder_revision)
    except DamagedModelError:
        if train != "always":
            raise
        current, missing = None, "the files of the champion were damaged"
    if train == "never" and missing:
        raise ChurnRadarError(f"churn__train is never, but {missing}; expected a champion: use if_missing")
    if train == "always" or missing:
        rows = training_rows(labels)
        settings = TrainingSettings(transformer=TransformerSettings() if transformer else None, trials=trials)
        challenger = training.train(rows, horizon_days, settings)
        if not missing and (gone := sorted(set(current.model.reads) - set(rows.columns))):
            missing = f"the champion reads features that are gone: {', '.join(gone[:5])}"
        promote, reason = (True, missing) if missing else compare(current, challenger, rows)
        registry.register(challenger, promote, reason)
        forget_checkpoints()
    return registry.versions()


def _why_none_fits(current: RegisteredModel | None, horizon_days: int, encoder_revision: str | None) -> str | None:
    if current is None:
        return "there was no champion"
    if current.model.horizon_days != horizon_days:
        return f"the champion answers {current.model.horizon_days} days, not {horizon_days}"
    if current.model.reads_words and encoder_revision not in (None, current.model.encoder_revision):
        return "the champion learned from texts by another encoder"
    return None


def compare(current: RegisteredModel, challenger: ChurnModel, rows: pd.DataFrame) -> tuple[bool, str]:
    """Decide whether a challenger becomes champion: only with lower log-loss on the same later rows.

    The later rows are the challenger's validation snapshots that begin after the last label window that
    the champion learned from; there the challenger's own predictions are out of time as well. Where there
    are none yet, both are judged by their own rolling validation on the snapshots that they share.

    Returns
    -------
    tuple of bool and str
        Whether to promote, and why.
    """
    challenger_losses = challenger.details.get("validation_log_losses", {})
    learned_until = pd.Timestamp(current.model.details["last_snapshot"]) + pd.Timedelta(days=current.model.horizon_days)
    later = sorted(date for date in challenger_losses if pd.Timestamp(date) >= learned_until)
    if later:
        ours = np.mean([challenger_losses[date] for date in later])
        theirs = np.mean([_snapshot_loss(current.model, rows, date) for date in later])
        where = f"on {len(later)} later snapshots"
    else:
        shared = sorted(challenger_losses.keys() & current.model.details.get("validation_log_losses", {}).keys())
        if not shared:
            return False, f"no later rows to compare with champion {current.version}"
        ours = np.mean([challenger_losses[date] for date in shared])
        theirs = np.mean([current.model.details["validation_log_losses"][date] for date in shared])
        where = f"in rolling validation on {len(shared)} shared snapshots"
    promote = bool(ours < theirs)
    verdict = "below" if promote else "not below"
    return promote, f"log-loss {ours:.5f}, {verdict} {theirs:.5f} of champion {current.version}, {where}"


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


def _snapshot_loss(model: ChurnModel, rows: pd.DataFrame, date: str) -> float:
    as_of_date = pd.Timestamp(date)
    snapshot = rows[pd.to_datetime(rows.as_of_date) == as_of_date]
    logit = model.logit(*model.inputs(snapshot))
    history = level_history(rows, model.horizon_days)
    shift = anchored_shift(model.anchor, as_of_date, history, logit, snapshot.no_order_probability)
    return float(log_loss(snapshot.churned.astype(int), expit(logit + shift), labels=[0, 1]))
