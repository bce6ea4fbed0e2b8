"""Training: rolling validation on later snapshots decides, then everything known is learned."""

import time

import pandas as pd

from inference.evaluation.metrics import best_f1_threshold, evaluate
from inference.features.attributes import PACKED, attribute_features
from inference.model.churn_model import ChurnModel, feature_matrix
from inference.model.level import ANCHORS, choose_anchor, level_history
from inference.model.members import MEMBERS
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, has_sequences, read_sequences
from inference.model.spend import SpendModel
from inference.model.training_summary import TrainingSummary, TransformerSummary
from inference.model.transformer.member import TransformerMember
from inference.model.words import EMBEDDING, WORDS_LOGIT, WordsModel, embedding_matrix, enough_words
from inference.training.drift_reference import drift_reference
from inference.training.settings import TrainingSettings
from inference.training.transformer_selection import Material, judge_transformer, train_transformer
from inference.training.validation import (
    anchored_validation,
    backtest_level,
    check_trainable,
    eligible_members,
    gain_of_words,
    losses_at_true_level,
    rolling_folds,
    rolling_validation,
    snapshot_log_losses,
    with_mean,
)

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
    model.summary = TrainingSummary(
        training_rows=len(rows),
        training_customers=int(rows.customer_id.nunique()),
        first_snapshot=str(rows.as_of_date.min().date()),
        last_snapshot=str(rows.as_of_date.max().date()),
        level_error=level_error,
        member_log_losses=losses,
        words_gain=words_gain,
        transformer=None if verdict is None else TransformerSummary(**verdict.to_dict()),
        seconds=seconds,
    )
    if transformer is not None:
        seconds["transformer"] = {"train": verdict.seconds}
    if len(backtest):
        out_of_time = model.validation = anchored_validation(validation, averaged, backtest, anchor)
        model.threshold = best_f1_threshold(out_of_time.churned, out_of_time.probability)
        model.summary.validation = evaluate(out_of_time.churned, out_of_time.probability, model.threshold).to_dict()
        model.summary.validation_log_losses = snapshot_log_losses(out_of_time)
        model.summary.level_backtest = backtest.reset_index().astype({"as_of_date": str}).to_dict("records")
    numbers = rows.columns.difference(LABEL_COLUMNS, sort=False)
    model.reference = drift_reference(model, rows[numbers], rows.as_of_date)
    return model


def _to_go_on_from(champion: ChurnModel | None, X: pd.DataFrame, variant: str) -> TransformerMember | None:
    """The champion's transformer, where one of this kind can start from it."""
    if champion is None or champion.transformer is None or champion.features != list(X.columns):
        return None
    return champion.transformer if champion.summary.transformer.variant == variant else None


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
