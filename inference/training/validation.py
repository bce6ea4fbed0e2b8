"""Rolling validation: each later snapshot is predicted from those whose label windows had closed before it."""

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from inference.errors import ChurnRadarError
from inference.evaluation.metrics import log_losses, paired_gain
from inference.model.level import ANCHORS, anchored_level, level_history, level_shift
from inference.model.members import MEMBERS, BoostingMember
from inference.model.training_data import TrainingData
from inference.model.words import WORDS_LOGIT, WordsModel, enough_words
from inference.progress import track
from inference.training.settings import TrainingSettings


def gain_of_words(without: pd.DataFrame, with_words: pd.DataFrame) -> dict[str, float] | None:
    """Decrease of the log-loss on later snapshots by text embeddings, as ``paired_gain``, in nats at the true level.

    None with fewer than two later snapshots.
    """
    if without.empty or without.as_of_date.nunique() < 2:
        return None
    names = [name for name in MEMBERS if name in without]
    losses = [losses_at_true_level(table, names) for table in (without, with_words)]
    return paired_gain(losses[0] - losses[1], without.customer_id.to_numpy())


def losses_at_true_level(validation: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Log-loss of an average for each row, at the true level of its snapshot, shape (n_rows,)."""
    probabilities = np.empty(len(validation))
    for rows in validation.groupby("as_of_date").indices.values():
        logit = validation.iloc[rows][names].mean(axis=1).to_numpy()
        rate = validation.churned.iloc[rows].mean()
        probabilities[rows] = expit(logit + level_shift(logit, rate))
    return log_losses(validation.churned, probabilities)


def check_trainable(rows: pd.DataFrame, settings: TrainingSettings) -> None:
    """Raise ``ChurnRadarError`` where there are too few customers or only one outcome."""
    customers = rows.customer_id.nunique()
    if customers < settings.min_customers:
        raise ChurnRadarError(
            f"churn_labels: {customers} customers with a known outcome; expected at least "
            f"{settings.min_customers}. Too little history to train: wait for more label windows to close, or "
            "lower churn__horizon_days or churn__activity_days"
        )
    if rows.churned.nunique() < 2:
        outcome = "churned" if rows.churned.iloc[0] == 1 else "ordered again"
        raise ChurnRadarError(
            f"churn_labels.churned: all {len(rows)} labelled rows {outcome}; expected some of both. "
            "Change churn__horizon_days"
        )


def rolling_folds(
    rows: pd.DataFrame, horizon_days: int, settings: TrainingSettings
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks of the training rows, whose label windows closed before a later snapshot, and of that snapshot's rows."""
    horizon, churned = pd.Timedelta(days=horizon_days), rows.churned.to_numpy(dtype=int)
    folds = []
    for as_of_date in sorted(rows.as_of_date.unique()):
        earlier = (rows.as_of_date + horizon <= as_of_date).to_numpy()
        now = (rows.as_of_date == as_of_date).to_numpy()
        enough = rows.customer_id[earlier].nunique() >= settings.min_customers
        if enough and len(set(churned[earlier])) == 2 and len(set(churned[now])) == 2:
            folds.append((earlier, now))
    return folds[-settings.validation_snapshots :]


def rolling_validation(data: TrainingData, horizon_days: int, settings: TrainingSettings) -> pd.DataFrame:
    """Predict each later snapshot from those whose label windows had closed before it.

    ``customer_id``, ``as_of_date``, ``churned``, ``no_order_probability`` and a column of log-odds per member; empty
    where no snapshot has enough before it. Where the data has embeddings, each fold that has enough texts in its
    training rows learns a words model from them, whose log-odds are one more feature.
    """
    predictions = []
    folds = rolling_folds(data.rows, horizon_days, settings)
    for earlier, now in track(folds, "Validating on later snapshots"):
        fold = data.rows.loc[now, ["customer_id", "as_of_date", "churned", "no_order_probability"]].copy()
        X_earlier, X_now = fold_features(data, earlier, now)
        for name, member in MEMBERS.items():
            fold[name] = member().fit(X_earlier, data.y[earlier]).logit(X_now)
        predictions.append(fold)
    return pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame()


def cross_fitted_logit(data: TrainingData, names: list[str]) -> np.ndarray:
    """Mean log-odds of the tabular members on their training rows, shape (n_rows,), cross-fitted by customer.

    In-sample log-odds would overfit, and leave no residual for words or the transformer to learn.
    """
    result, X, y = np.zeros(len(data)), data.X, data.y
    for fitted, left_out in GroupKFold(3).split(X, y, data.customers):
        members = [BoostingMember(n_seeds=1) if name == BoostingMember.name else MEMBERS[name]() for name in names]
        logits = [m.fit(X.iloc[fitted], y[fitted]).logit(X.iloc[left_out]) for m in members]
        result[left_out] = np.mean(logits, axis=0)
    return result


def backtest_level(validation: pd.DataFrame, names: list[str], rows: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    """Churn rate, and that which each anchor would have forecast, by validation snapshot.

    Indexed by as-of date: ``churn_rate`` and a column per anchor.
    """
    if validation.empty:
        return pd.DataFrame()
    history = level_history(rows, horizon_days)
    records: dict[pd.Timestamp, dict[str, float | None]] = {}
    for as_of_date, snapshot in validation.groupby("as_of_date"):
        model_level = float(expit(snapshot[names].mean(axis=1)).mean())
        forecast_level = float(snapshot.no_order_probability.mean())
        churn_rate: dict[str, float | None] = {"churn_rate": float(snapshot.churned.mean())}
        records[as_of_date] = churn_rate | {
            anchor: anchored_level(anchor, as_of_date, history, model_level, forecast_level) for anchor in ANCHORS
        }
    return pd.DataFrame.from_dict(records, orient="index", dtype=float).rename_axis("as_of_date")


def fold_features(data: TrainingData, earlier: np.ndarray, now: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features of the training rows and of the later rows of a fold, given by masks of shape (n_rows,).

    The words' log-odds come from a words model that was fitted on the training rows.
    """
    X = data.X.drop(columns=WORDS_LOGIT, errors="ignore")
    X_earlier, X_now, embeddings = X[earlier], X[now], data.embeddings
    if embeddings is not None and enough_words(embeddings[earlier], data.y[earlier]):
        words = WordsModel()
        logit = words.fit_transform(embeddings[earlier], data.y[earlier], data.customers[earlier])
        X_earlier = X_earlier.assign(**{WORDS_LOGIT: logit})
        X_now = X_now.assign(**{WORDS_LOGIT: words.transform(embeddings[now])})
    return X_earlier, X_now
