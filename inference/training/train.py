"""Training: members and level are chosen by rolling validation, then fitted on all rows."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd

from inference.evaluation.metrics import best_f1_threshold, evaluate, log_losses, paired_gain
from inference.model.churn_model import ChurnModel
from inference.model.level import ANCHORS, anchored_probabilities, choose_anchor, level_history
from inference.model.lexical import LexicalModel
from inference.model.members import MEMBERS, Member
from inference.model.sequences import has_sequences, read_sequences
from inference.model.spend import SpendModel
from inference.model.training_data import TrainingData
from inference.model.training_summary import TrainingSummary
from inference.model.transformer.member import TransformerMember
from inference.model.words import WORDS_LOGIT, WordsModel, embedding_matrix, enough_words
from inference.training.drift_reference import drift_reference
from inference.training.lexical_selection import select_lexical, train_lexical
from inference.training.rows import LABEL_COLUMNS, training_data
from inference.training.settings import TrainingSettings
from inference.training.transformer_selection import SelectionResult, select_transformer, train_transformer
from inference.training.validation import (
    backtest_level,
    check_trainable,
    cross_fitted_logit,
    gain_of_words,
    losses_at_true_level,
    rolling_folds,
    rolling_validation,
)

#: Text embeddings are used where the lower end of the interval of their gain is above this, in nats per row: embeddings
#: also carry the number and kind of texts, and shuffled between customers they still gain up to 0.0002.
MIN_GAIN_OF_WORDS = 0.0005
#: Standard errors by which the average must gain from leaving a member out: one-sided 95 %.
ELIMINATION_ERRORS = 1.6449


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
        Training on all rows starts from the weights of its transformer, where that reads the same features and the
        same kind of texts. Validation does not use it, as it may have learned from the later snapshots.

    Raises
    ------
    ChurnRadarError
        If there are too few labelled customers or only one class.
    """
    settings = settings or TrainingSettings()
    rows = rows[rows.churned.notna()].assign(as_of_date=lambda r: pd.to_datetime(r.as_of_date))
    rows = rows.sort_values(["as_of_date", "customer_id"], ignore_index=True)
    check_trainable(rows, settings)
    data, words, words_gain, validation = _choose_words(training_data(rows), horizon_days, settings)
    names, losses = choose_members(validation)
    data = replace(data, sequences=read_sequences(rows)) if has_sequences(rows) else data
    folds = rolling_folds(rows, horizon_days, settings)
    lexical_gain, lexical, validation = _choose_lexical(data, names, folds, validation)
    tried = _choose_transformer(data, names, lexical is not None, validation, folds, settings, champion)
    selection, transformer = tried
    averaged = names
    if selection is not None:
        averaged, validation = selection.summary.averaged, selection.validation
    scoring_date = rows.as_of_date.max() + pd.Timedelta(days=horizon_days)
    backtest, anchor, level_error = choose_level(validation, averaged, rows, horizon_days, scoring_date)
    members, seconds = _fit_members(names, data)
    if selection is not None and transformer is not None:
        seconds["transformer"] = {"train": selection.seconds}
    ordered = data.y == 0
    model = ChurnModel(
        features=list(data.X.columns),
        members=members,
        spend=SpendModel().fit(data.X[ordered], data.spend[ordered]),
        anchor=anchor,
        threshold=0.5,
        horizon_days=horizon_days,
        words=words,
        lexical=lexical,
        transformer=transformer,
        averaged=averaged,
    )
    if model.reads_embeddings:
        model.encoder_revision = rows.encoder_revision.dropna().iloc[0]
    model.summary = TrainingSummary(
        training_rows=len(rows),
        training_customers=int(rows.customer_id.nunique()),
        first_snapshot=str(rows.as_of_date.min().date()),
        last_snapshot=str(rows.as_of_date.max().date()),
        level_error=level_error,
        member_log_losses=losses,
        words_gain=words_gain,
        lexical_gain=lexical_gain,
        transformer=None if selection is None else selection.summary,
        seconds=seconds,
    )
    if len(backtest):
        logit, history = validation[averaged].mean(axis=1).to_numpy(), level_history(rows, horizon_days)
        probability = anchored_probabilities(anchor, history, validation, logit)
        validation = validation.assign(churned=validation.churned.astype(int), probability=probability)
        _add_validation(model, validation, backtest)
    numbers = rows.columns.difference(LABEL_COLUMNS, sort=False)
    model.reference = drift_reference(model, rows[numbers], rows.as_of_date)
    return model


def _choose_words(
    data: TrainingData, horizon_days: int, settings: TrainingSettings
) -> tuple[TrainingData, WordsModel | None, dict[str, float] | None, pd.DataFrame]:
    """Validate with and without text embeddings.

    Returns
    -------
    TrainingData, WordsModel or None
        Where embeddings are used, with them and the words' log-odds among the features; the model fitted on all rows.
    dict or None
        See ``gain_of_words``; None where there are too few texts.
    DataFrame
        See ``rolling_validation``; with the column ``without_words`` where both were tried.
    """
    embeddings = embedding_matrix(data.rows)
    validation = rolling_validation(data, horizon_days, settings)
    if embeddings is None or not enough_words(embeddings, data.y):
        return data, None, None, validation
    with_words = rolling_validation(replace(data, embeddings=embeddings), horizon_days, settings)
    gain = gain_of_words(validation, with_words)
    if not validation.empty:
        without = validation[[name for name in MEMBERS if name in validation]].mean(axis=1)
        validation, with_words = (table.assign(without_words=without) for table in (validation, with_words))
    if gain is None or gain["low"] <= MIN_GAIN_OF_WORDS:
        return data, None, gain, validation
    words = WordsModel()
    X = data.X.assign(**{WORDS_LOGIT: words.fit_transform(embeddings, data.y, data.customers)})
    return replace(data, X=X, embeddings=embeddings), words, gain, with_words


def _choose_lexical(
    data: TrainingData, names: list[str], folds: list[tuple[np.ndarray, np.ndarray]], validation: pd.DataFrame
) -> tuple[dict[str, float] | None, LexicalModel | None, pd.DataFrame]:
    """Try single words; return their gain, None where it was not measured, and the model where they helped.

    The validation returned has them in the log-odds of the members then, and the column ``without_words``.
    """
    selection = select_lexical(data, names, folds, validation)
    if selection is None:
        return None, None, validation
    if not selection.is_kept:
        return selection.gain, None, validation
    before = {} if "without_words" in validation else {"without_words": validation[names].mean(axis=1)}
    added = {name: validation[name] + selection.residuals for name in names}
    model = train_lexical(data, cross_fitted_logit(data, names))
    return selection.gain, model, validation.assign(**before, **added)


def _choose_transformer(
    data: TrainingData,
    names: list[str],
    has_lexical: bool,
    validation: pd.DataFrame,
    folds: list[tuple[np.ndarray, np.ndarray]],
    settings: TrainingSettings,
    champion: ChurnModel | None,
) -> tuple[SelectionResult | None, TransformerMember | None]:
    """Try the transformer where there are enough customers; fit it on all rows where it joins the average."""
    if data.rows.customer_id.nunique() < settings.min_customers_for_transformer or data.sequences is None:
        return None, None
    selection = select_transformer(data, names, folds, validation, settings, has_lexical)
    if selection is None or "transformer" not in selection.summary.averaged:
        return selection, None
    start = None
    if champion is not None and champion.transformer is not None and champion.features == list(data.X.columns):
        before = champion.summary.transformer
        start = champion.transformer if before and before.variant == selection.summary.variant else None
    return selection, train_transformer(data, names, selection, has_lexical, start)


def _fit_members(names: list[str], data: TrainingData) -> tuple[list[Member], dict[str, dict[str, float]]]:
    """Fit the tabular members on all rows; return them and the seconds that each took."""
    members, seconds = [], {}
    for name in names:
        started = time.monotonic()
        members.append(MEMBERS[name]().fit(data.X, data.y))
        seconds[name] = {"train": time.monotonic() - started}
    return members, seconds


def _add_validation(model: ChurnModel, validation: pd.DataFrame, backtest: pd.DataFrame) -> None:
    """Set what the model keeps of its validation: the rows, the threshold and the metrics."""
    model.validation = validation
    model.threshold = best_f1_threshold(validation.churned, validation.probability)
    model.summary.validation = vars(evaluate(validation.churned, validation.probability, model.threshold))
    model.summary.validation_log_losses = {
        str(as_of_date.date()): float(log_losses(snapshot.churned, snapshot.probability).mean())
        for as_of_date, snapshot in validation.groupby("as_of_date")
    }
    model.summary.level_backtest = backtest.reset_index().astype({"as_of_date": str}).to_dict("records")


def choose_members(validation: pd.DataFrame) -> tuple[list[str], dict[str, float]]:
    """Choose tabular members by backward elimination on out-of-time log-loss.

    Starting from all members, the one whose removal lowers the loss most is dropped until no removal lowers it beyond
    chance: what a few snapshots say shrinks towards the equal average, which is never far from the best. Averages are
    compared at the true level of each snapshot, as the level is set separately. Also returned is the log-loss of each,
    by the names of its members joined with ``+``.
    """
    kept = list(MEMBERS)
    if validation.empty:
        return kept, {}
    customers = validation.customer_id.to_numpy()
    losses: dict[str, np.ndarray] = {}

    def loss(names: list[str]) -> np.ndarray:
        key = "+".join(names)
        if key not in losses:
            losses[key] = losses_at_true_level(validation, names)
        return losses[key]

    for name in kept:
        loss([name])
    while len(kept) > 1:
        best = min(([n for n in kept if n != out] for out in kept), key=lambda names: loss(names).mean())
        if paired_gain(loss(kept) - loss(best), customers, ELIMINATION_ERRORS)["low"] <= 0:
            break
        kept = best
    return kept, {key: float(of_rows.mean()) for key, of_rows in losses.items()}


def choose_level(
    validation: pd.DataFrame, names: list[str], rows: pd.DataFrame, horizon_days: int, as_of_date: pd.Timestamp
) -> tuple[pd.DataFrame, str, float | None]:
    """Backtest the anchors on the validation snapshots and choose one that has a forecast for a date.

    Returned are ``backtest_level``, the anchor, ``latest_rate`` where nothing could be backtested, and its mean
    absolute error over the validation snapshots.
    """
    backtest = backtest_level(validation, names, rows, horizon_days)
    if backtest.empty:
        return backtest, "latest_rate", None
    available = {anchor for anchor in ANCHORS if backtest[anchor].notna().any()}
    # after a year of history last year's rate is known, even if it was at no snapshot so far
    if level_history(rows, horizon_days).last_year(as_of_date) is not None:
        available.add("last_year")
    return backtest, *choose_anchor(backtest, available)
