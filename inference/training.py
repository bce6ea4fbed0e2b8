"""Training: rolling validation on later snapshots decides, then everything known is learned."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import log_loss

from inference.attributes import PACKED, attribute_features
from inference.calibration import ANCHORS, anchored_level, choose_anchor, level_history, level_shift
from inference.drift import drift_reference
from inference.earning import Material, fold_features, judge_transformer, train_transformer
from inference.ensemble import ChurnModel, feature_matrix
from inference.errors import ChurnRadarError
from inference.evaluation import best_f1_threshold, evaluate
from inference.gains import gain_of_words, losses_at_true_level
from inference.members import MEMBERS, BoostingMember, LogisticMember, Member
from inference.progress import track
from inference.sequences import EVENT_COLUMNS, TEXT_COLUMNS, has_sequences, read_sequences
from inference.spend import SpendModel
from inference.transformer import TransformerMember
from inference.transformer_settings import TransformerSettings
from inference.words import EMBEDDING, WORDS_LOGIT, WordsModel, embedding_matrix, enough_words

#: Columns of the training rows that are not features.
LABEL_COLUMNS = (
    "customer_id",
    "as_of_date",
    "horizon_days",
    "window_ends_on",
    "churned",
    "horizon_orders",
    "horizon_spend",
    "encoder_revision",
    PACKED,
    EMBEDDING,
    *EVENT_COLUMNS,
    *TEXT_COLUMNS,
)


#: Nats per customer by which words must lower the log-loss at the least, as far as chance allows to say. Embeddings
#: tell besides words how many texts there were, and of which kind: with words of others they gain up to 0.0002.
LEAST_GAIN_OF_WORDS = 0.0005


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    least_customers : int
        Fewer labelled customers than this are refused.
    least_customers_for_boosting : int
        Fewer labelled customers than this are left to logistic regression alone.
    least_customers_for_transformer : int
        Fewer labelled customers than this are not given to the transformer.
    validation_snapshots : int
        Most snapshots of the rolling validation, the newest ones.
    transformer_snapshots : int
        Newest of them on which the transformer must earn its place; the one before decides how long it trains.
    transformer : TransformerSettings or None
        How the transformer is trained; None leaves it out.
    trials : int
        How many settings of the transformer are tried on the snapshot that decides how long it trains.
    """

    least_customers: int = 50
    least_customers_for_boosting: int = 300
    least_customers_for_transformer: int = 1000
    validation_snapshots: int = 6
    transformer_snapshots: int = 3
    transformer: TransformerSettings | None = TransformerSettings()  # noqa: RUF009
    trials: int = 0


def train(
    rows: pd.DataFrame,
    horizon_days: int,
    settings: TrainingSettings | None = None,
    champion: ChurnModel | None = None,
) -> ChurnModel:
    """Choose members and level by rolling validation, then fit on all rows.

    Parameters
    ----------
    rows : DataFrame
        One row per customer and snapshot: ``customer_id``, ``as_of_date``, ``churned`` (0 or 1; null
        rows are dropped), ``horizon_spend`` and the features, ``no_order_probability`` among them.
    horizon_days : int
        Length of the label window.
    settings : TrainingSettings, optional
        Defaults where not given.
    champion : ChurnModel, optional
        Its transformer's weights are gone on from where it is of the kind that is kept; the rows are those of all
        snapshots, old and new, so that what it learned is kept. It has no part in the validation, whose later
        snapshots it may have learned from.

    Returns
    -------
    ChurnModel

    Raises
    ------
    ChurnRadarError
        If there are too few labelled customers or only one class.
    """
    settings = settings or TrainingSettings()
    rows = rows[rows.churned.notna()].assign(as_of_date=lambda r: pd.to_datetime(r.as_of_date))
    rows = rows.sort_values(["as_of_date", "customer_id"], ignore_index=True)
    check_trainable(rows, settings)
    features = [c for c in rows.columns if c not in LABEL_COLUMNS and rows[c].notna().any()]
    features += attribute_features(rows)
    X, y = feature_matrix(rows, features), rows.churned.to_numpy(dtype=int)
    embeddings = embedding_matrix(rows)

    validation = rolling_validation(rows, X, y, horizon_days, settings)
    words, words_gain = None, None
    if enough_words(embeddings, y):
        with_words = rolling_validation(rows, X, y, horizon_days, settings, embeddings)
        words_gain = gain_of_words(validation, with_words)
        validation = with_mean(validation, "without_words", validation)
        if words_gain and words_gain["low"] > LEAST_GAIN_OF_WORDS:
            words, validation = WordsModel(), with_mean(with_words, "without_words", validation)
            X = X.assign(**{WORDS_LOGIT: words.fit_transform(embeddings, y, rows.customer_id.to_numpy())})
    names, losses = choose_members(validation)
    names = names or [member.name for member in eligible_members(rows, settings)]
    averaged, verdict, transformer = names, None, None
    if has_sequences(rows) and rows.customer_id.nunique() >= settings.least_customers_for_transformer:
        folds = rolling_folds(rows, y, horizon_days, settings)
        material = Material(rows, X, y, read_sequences(rows), embeddings if words else None, names)
        verdict = judge_transformer(material, folds, validation, settings)
    if verdict is not None:
        averaged, validation = verdict.averaged, verdict.validation
        if "transformer" in averaged:
            transformer = train_transformer(material, verdict, _to_go_on_from(champion, X, verdict.variant))
    newest = rows.as_of_date.max() + pd.Timedelta(days=horizon_days)
    backtest, anchor, level_error = choose_level(validation, averaged, rows, horizon_days, newest)
    members, seconds = [], {}
    for name in names:
        started = time.monotonic()
        members.append(MEMBERS[name]().fit(X, y))
        seconds[name] = {"train": time.monotonic() - started}

    ordered = y == 0
    model = ChurnModel(
        features=list(X.columns),
        members=members,
        spend=SpendModel().fit(X[ordered], rows.horizon_spend[ordered].to_numpy(dtype=float)),
        anchor=anchor,
        threshold=0.5,
        horizon_days=horizon_days,
        words=words,
        transformer=transformer,
        averaged=averaged,
    )
    if model.reads_words:
        model.encoder_revision = rows.encoder_revision.dropna().iloc[0]
    model.details = {
        "training_rows": len(rows),
        "training_customers": int(rows.customer_id.nunique()),
        "first_snapshot": str(rows.as_of_date.min().date()),
        "last_snapshot": str(rows.as_of_date.max().date()),
        "level_error": level_error,
        "member_log_losses": losses,
        "words_gain": words_gain,
        "transformer": None if verdict is None else verdict.to_dict(),
        "seconds": seconds,
    }
    if transformer is not None:
        seconds["transformer"] = {"train": verdict.seconds}
    time_scores(model, rows.tail(10_000))
    if len(backtest):
        out_of_time = model.validation = anchored_validation(validation, averaged, backtest, anchor)
        model.threshold = best_f1_threshold(out_of_time.churned, out_of_time.probability)
        model.details["validation"] = evaluate(out_of_time.churned, out_of_time.probability, model.threshold).to_dict()
        model.details["validation_log_losses"] = snapshot_log_losses(out_of_time)
        model.details["level_backtest"] = backtest.reset_index().astype({"as_of_date": str}).to_dict("records")
    numbers = rows.columns.difference(LABEL_COLUMNS, sort=False)
    model.reference = drift_reference(model, rows[numbers], rows.as_of_date)
    return model


def _to_go_on_from(champion: ChurnModel | None, X: pd.DataFrame, variant: str) -> TransformerMember | None:
    """The champion's transformer, where one of this kind can start from it."""
    if champion is None or champion.transformer is None or champion.features != list(X.columns):
        return None
    return champion.transformer if champion.details["transformer"]["variant"] == variant else None


def time_scores(model: ChurnModel, rows: pd.DataFrame) -> None:
    """Add to ``details`` how long each member takes for 10,000 customers, texts that were never read included."""
    X, sequences = model.inputs(rows)
    tabular = np.zeros(len(rows))
    for member in [*model.members, *([model.transformer] if model.transformer else [])]:
        started = time.monotonic()
        if member is model.transformer:
            member.logit(X, sequences, tabular, keep=False)
        else:
            member.logit(X)
        model.details["seconds"][member.name]["score"] = (time.monotonic() - started) * 10_000 / len(rows)


def check_trainable(rows: pd.DataFrame, settings: TrainingSettings) -> None:
    """Refuse rows that carry no model, in one line that says what is missing."""
    customers = rows.customer_id.nunique()
    if customers < settings.least_customers:
        raise ChurnRadarError(
            f"churn_labels: {customers} customers with a known outcome; expected at least "
            f"{settings.least_customers}. Too little history to train: wait for more label windows to close, or "
            "lower churn__horizon_days or churn__activity_days"
        )
    if rows.churned.nunique() < 2:
        outcome = "churned" if rows.churned.iloc[0] == 1 else "ordered again"
        raise ChurnRadarError(
            f"churn_labels.churned: all {len(rows)} labelled rows {outcome}; expected some of both. "
            "Change churn__horizon_days"
        )


def eligible_members(rows: pd.DataFrame, settings: TrainingSettings) -> list[Member]:
    """Untrained members that this many customers can carry."""
    if rows.customer_id.nunique() < settings.least_customers_for_boosting:
        return [LogisticMember()]
    return [LogisticMember(), BoostingMember()]


def rolling_folds(
    rows: pd.DataFrame, y: np.ndarray, horizon_days: int, settings: TrainingSettings
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks of the rows whose label windows had closed before each later snapshot, and of the snapshot's own."""
    horizon = pd.Timedelta(days=horizon_days)
    folds = []
    for as_of_date in sorted(rows.as_of_date.unique()):
        earlier = (rows.as_of_date + horizon <= as_of_date).to_numpy()
        now = (rows.as_of_date == as_of_date).to_numpy()
        enough = rows.customer_id[earlier].nunique() >= settings.least_customers
        if enough and len(set(y[earlier])) == 2 and len(set(y[now])) == 2:
            folds.append((earlier, now))
    return folds[-settings.validation_snapshots :]


def rolling_validation(
    rows: pd.DataFrame,
    X: pd.DataFrame,
    y: np.ndarray,
    horizon_days: int,
    settings: TrainingSettings,
    embeddings: np.ndarray | None = None,
) -> pd.DataFrame:
    """Predict each later snapshot from those whose label windows had closed before it.

    With ``embeddings``, a words model is learned anew from the earlier snapshots of each fold that have
    enough words, and its log-odds are one more feature.

    Returns
    -------
    DataFrame
        ``customer_id``, ``as_of_date``, ``churned``, ``no_order_probability`` and a column of log-odds per
        member; empty where no snapshot has enough before it.
    """
    predictions = []
    folds = rolling_folds(rows, y, horizon_days, settings)
    for earlier, now in track(folds, "Validating on later snapshots"):
        fold = rows.loc[now, ["customer_id", "as_of_date", "churned", "no_order_probability"]].copy()
        X_earlier, X_now = fold_features(X, y, rows.customer_id.to_numpy(), embeddings, earlier, now)
        for member in eligible_members(rows[earlier], settings):
            fold[member.name] = member.fit(X_earlier, y[earlier]).logit(X_now)
        predictions.append(fold)
    return pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame()


def with_mean(validation: pd.DataFrame, name: str, of: pd.DataFrame) -> pd.DataFrame:
    """Add the mean log-odds of another validation of the same rows as a column."""
    if of.empty:
        return validation
    return validation.assign(**{name: of[[m for m in MEMBERS if m in of]].mean(axis=1).to_numpy()})


def choose_members(validation: pd.DataFrame) -> tuple[list[str], dict[str, float]]:
    """Keep the members that lower out-of-time log-loss.

    Starting from all members that predicted the newest validation snapshot, the one whose removal lowers the
    loss most is dropped until no removal does. Every average is judged at the true level of each
    snapshot, so that a member is not preferred for a lucky level: the level has its own anchor.

    Returns
    -------
    list of str
        Members kept.
    dict of str to float
        Log-loss of each average that was tried, by the names of its members joined with ``+``.
    """
    if validation.empty:
        return [], {}
    # a young shop's early folds lack the members that it could not carry yet: compare where all ran
    newest = validation[validation.as_of_date == validation.as_of_date.max()]
    candidates = [name for name in MEMBERS if name in validation and newest[name].notna().all()]
    validation = validation.dropna(subset=candidates)
    losses = {}

    def loss(names: list[str]) -> float:
        key = "+".join(names)
        if key not in losses:
            losses[key] = float(losses_at_true_level(validation, names).mean())
        return losses[key]

    kept = candidates
    while len(kept) > 1:
        best = min(([n for n in kept if n != out] for out in kept), key=loss)
        if loss(best) >= loss(kept):
            break
        kept = best
    for name in candidates:
        loss([name])
    loss(kept)
    return kept, losses


def backtest_level(validation: pd.DataFrame, names: list[str], rows: pd.DataFrame, horizon_days: int) -> pd.DataFrame:
    """What each anchor would have expected of each validation snapshot.

    Returns
    -------
    DataFrame
        Indexed by as-of date: ``churn_rate`` and a column per anchor.
    """
    if validation.empty:
        return pd.DataFrame()
    history = level_history(rows, horizon_days)
    records = {}
    for as_of_date, snapshot in validation.groupby("as_of_date"):
        model_level = float(expit(snapshot[names].mean(axis=1)).mean())
        forecast_level = float(snapshot.no_order_probability.mean())
        records[as_of_date] = {"churn_rate": float(snapshot.churned.mean())} | {
            anchor: anchored_level(anchor, as_of_date, history, model_level, forecast_level) for anchor in ANCHORS
        }
    return pd.DataFrame.from_dict(records, orient="index", dtype=float).rename_axis("as_of_date")


def choose_level(
    validation: pd.DataFrame, names: list[str], rows: pd.DataFrame, horizon_days: int, as_of_date: pd.Timestamp
) -> tuple[pd.DataFrame, str, float | None]:
    """Backtest the anchors on the validation snapshots and choose one of those that speak at a date.

    Returns
    -------
    DataFrame
        See ``backtest_level``.
    str
        The anchor; ``latest_rate`` where nothing could be backtested.
    float or None
        Its mean absolute error over the validation snapshots.
    """
    backtest = backtest_level(validation, names, rows, horizon_days)
    if backtest.empty:
        return backtest, "latest_rate", None
    speaks = {anchor for anchor in ANCHORS if backtest[anchor].notna().any()}
    # with a year of history last year's rate is known, though at no snapshot so far
    if level_history(rows, horizon_days).last_year(as_of_date) is not None:
        speaks.add("last_year")
    return backtest, *choose_anchor(backtest, speaks)


def anchored_validation(
    validation: pd.DataFrame, names: list[str], backtest: pd.DataFrame, anchor: str
) -> pd.DataFrame:
    """Validation rows with the probability that would have been given: ``probability`` is added."""
    parts = []
    for as_of_date, snapshot in validation.groupby("as_of_date"):
        logit = snapshot[names].mean(axis=1).to_numpy()
        level = backtest.loc[as_of_date, anchor]
        shift = 0.0 if np.isnan(level) else level_shift(logit, level)
        parts.append(snapshot.assign(churned=snapshot.churned.astype(int), probability=expit(logit + shift)))
    return pd.concat(parts, ignore_index=True)


def snapshot_log_losses(predictions: pd.DataFrame) -> dict[str, float]:
    """Log-loss of each snapshot, by date."""
    return {
        str(as_of_date.date()): float(log_loss(snapshot.churned, snapshot.probability, labels=[0, 1]))
        for as_of_date, snapshot in predictions.groupby("as_of_date")
    }
