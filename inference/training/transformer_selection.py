"""Model selection: whether the transformer improves the average on later snapshots, and which inputs it reads."""

import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from inference.evaluation.metrics import paired_gain
from inference.model.training_data import TrainingData
from inference.model.training_summary import TransformerSummary
from inference.model.transformer.member import TransformerMember, device
from inference.model.transformer.settings import TransformerSettings
from inference.model.words import enough_words
from inference.progress import track
from inference.text.encoder.encoder import Encoder
from inference.threads import n_threads, side_by_side
from inference.training.lexical_selection import cross_fitted_base
from inference.training.settings import TrainingSettings
from inference.training.validation import fold_features, losses_at_true_level

if TYPE_CHECKING:  # it is imported where settings are searched, as few trainings do
    from optuna import Trial
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

#: Inputs of the transformer, each trained on from the one before: events; also texts, as embeddings of the frozen
#: encoder; also texts, read by an encoder that is fine-tuned.
VARIANTS = ("events", "words", "fine_tuned")
#: Control for ``words``: the same network, trained in the same way on texts that were shuffled between customers.
SHUFFLED = "shuffled_words"
#: A transformer is judged only if it lowers the log-loss of the tuning snapshot by this, in nats. Epochs are chosen
#: there, so that the true gain is smaller, and one so small is within the sampling error of later snapshots.
MIN_TUNING_GAIN = 0.0002


@dataclass
class SelectionResult:
    """Whether the transformer joins the average, and how it is to be trained."""

    #: The rolling validation with the column ``transformer``: log-odds of the chosen variant, and the mean of the
    #: tabular members in snapshots on which the transformer did not run.
    validation: pd.DataFrame
    settings: TransformerSettings  # as given, or the best of the trials
    summary: TransformerSummary  # choice, gains and loss curves, saved with the model
    seconds: float = 0.0  # duration of the last training, on all rows


@dataclass(frozen=True)
class _Fold:
    """Training rows and later rows, both with log-odds of the tabular members; the validation of the later rows."""

    earlier: TrainingData
    later: TrainingData
    validation: pd.DataFrame


def select_transformer(
    data: TrainingData,
    names: list[str],
    folds: list[tuple[np.ndarray, np.ndarray]],
    validation: pd.DataFrame,
    settings: TrainingSettings,
    has_lexical: bool = False,
) -> SelectionResult | None:
    """Train the transformer on the newest folds, and choose it where it lowers their log-loss beyond chance.

    The fold before the judging ones sets the number of epochs (and the settings, where trials are asked for), so no
    snapshot that judges was used for tuning. What gains next to nothing there is left out without judging. Texts must
    gain over events alone and over shuffled texts, a fine-tuned encoder over a frozen one. Fine-tuning takes most of
    the time: it is tried only where texts helped on the tuning fold, and judged only where it helped there as well.

    None where there are too few later snapshots.

    Parameters
    ----------
    data : TrainingData
        All training rows, with sequences.
    names : list of str
        Tabular members; the transformer adds to the mean of their log-odds.
    folds : list of tuple of ndarray
        Masks of earlier and later rows, oldest first.
    validation : DataFrame
        Out-of-time log-odds of the tabular members on these folds.
    settings : TrainingSettings
        Number of judging snapshots, number of trials, and the transformer's own settings.
    has_lexical : bool
        Whether the lexical model adds to the members; in the validation it does then.
    """
    if settings.transformer is None or len(folds) < 3:
        return None
    tuning, *judging = folds[-settings.transformer_snapshots - 1 :]
    encoder = Encoder() if _enough_texts(data.take(tuning[0])) else None
    fold = _make_fold(data, names, tuning, validation, has_lexical)
    chosen = settings.transformer
    variants = _variants(encoder, chosen)
    if settings.trials:
        chosen = search(fold, chosen, settings.trials)
    epochs, tuned, best = _tune(fold, variants, chosen, encoder)
    part = fold.validation.assign(transformer=best.logit(*fold.later.transformer_inputs, keep=False))
    losses = [losses_at_true_level(part, average) for average in (names, ["transformer"])]
    gain = paired_gain(losses[0] - losses[1], part.customer_id.to_numpy())
    if gain["mean"] < MIN_TUNING_GAIN:
        summary = TransformerSummary(names, list(epochs)[-1], epochs, {"kept": gain}, {}, tuned, asdict(chosen))
        return SelectionResult(validation, chosen, summary)
    data = replace(data, rows=data.rows[["customer_id", "as_of_date"]])  # others are copied to processes in vain
    tasks = [(data, names, masks, validation, has_lexical, epochs, chosen) for masks in judging]
    folds_at_once = n_threads() if device() == "cpu" else 1
    parts = list(track(side_by_side(_judge, tasks, folds_at_once), "Judging the transformer", total=len(tasks)))
    judged = pd.concat([part for part, _ in parts], ignore_index=True)
    trained = [history for _, of_fold in parts for history in of_fold]
    return _compare(names, validation, judged, chosen, epochs, tuned + trained)


def train_transformer(
    data: TrainingData,
    names: list[str],
    selection: SelectionResult,
    has_lexical: bool = False,
    champion: TransformerMember | None = None,
) -> TransformerMember:
    """Train the chosen transformer on all rows; the selection gets the loss curve and the seconds.

    Training starts from the weights of the champion's where its settings are the same; it must read the same features
    and variant.
    """
    started, variant = time.monotonic(), selection.summary.variant
    data = replace(data, tabular_logit=cross_fitted_base(data, names, has_lexical))
    encoder = None if variant == "events" else Encoder()
    member, steps = None, VARIANTS[: VARIANTS.index(variant)]
    if champion is not None and champion.settings == selection.settings:
        member, steps = champion, ()
    epochs = selection.summary.epochs
    for step in steps:
        member = _fit(data, step, selection.settings, epochs[step], f"Training {step}", encoder, member)
    last = _fit(data, variant, selection.settings, epochs[variant], f"Training {variant}", encoder, member)
    selection.summary.histories.append({"name": "training", **asdict(last.history_)})
    selection.seconds = time.monotonic() - started
    return last


def search(fold: _Fold, settings: TransformerSettings, n_trials: int) -> TransformerSettings:
    """Search settings of the network on events with Optuna, for the lowest log-loss on the fold's later snapshot.

    The settings given are the first trial, so the result is never worse there than they are.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def settings_of(trial: "Trial | FrozenTrial") -> TransformerSettings:
        return replace(
            settings,
            width=trial.suggest_categorical("width", sorted({32, 48, 64, settings.width})),
            event_layers=trial.suggest_int("event_layers", 1, 3),
            dropout=trial.suggest_float("dropout", 0.1, 0.4),
            learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
        )

    def loss(trial: "Trial") -> float:
        title = f"Trial {trial.number + 1} of {n_trials}"
        member = _fit(fold.earlier, "events", settings_of(trial), None, title, later=fold.later)
        return min(point["log_loss"] for point in member.history_.later)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    tried = ("width", "event_layers", "dropout", "learning_rate", "weight_decay")
    study.enqueue_trial({name: getattr(settings, name) for name in tried})
    study.optimize(loss, n_trials=n_trials)
    return settings_of(study.best_trial)


def _variants(encoder: Encoder | None, settings: TransformerSettings) -> list[str]:
    """Variants to try, in order; ``encoder`` is None where there are too few texts."""
    if encoder is None:
        return ["events"]
    if encoder.transformer is None:
        logger.info("%s has no transformer to fine-tune: its embeddings are used as they are", encoder.settings.name)
        return ["events", "words"]
    return ["events", "words"] if settings.fine_tuning == "frozen" else list(VARIANTS)


def _tune(
    fold: _Fold, variants: list[str], settings: TransformerSettings, encoder: Encoder | None
) -> tuple[dict[str, float], list[dict], TransformerMember]:
    """Find the epochs of each variant by early stopping, up to the first that does not help.

    Returned are epochs by variant, loss curves, and the member with the lowest loss on the later rows.
    """
    epochs: dict[str, float] = {}
    histories = []
    lowest, member, best = math.inf, None, None
    for variant in variants:
        member = _fit(fold.earlier, variant, settings, None, f"Tuning {variant}", encoder, member, fold.later)
        histories.append({"name": f"tuning {variant}", **asdict(member.history_)})
        before, lowest = lowest, min(point["log_loss"] for point in member.history_.later)
        best = member if lowest < before or best is None else best
        if variant != "fine_tuned" or lowest < before:
            epochs[variant] = member.history_.best_epochs
        if lowest >= before:
            logger.info("transformer: %s did not lower the log-loss of the tuning snapshot; no more is tried", variant)
            break
    assert best is not None
    return epochs, histories, best


def _judge(
    data: TrainingData,
    names: list[str],
    masks: tuple[np.ndarray, np.ndarray],
    validation: pd.DataFrame,
    has_lexical: bool,
    epochs: dict[str, float],
    settings: TransformerSettings,
) -> tuple[pd.DataFrame, list[dict]]:
    """Add the log-odds of each variant and of the control to the validation of a fold; and return loss curves."""
    fold = _make_fold(data, names, masks, validation, has_lexical)
    part, histories = fold.validation.copy(), []
    member: TransformerMember | None = None
    encoder = Encoder.shared() if set(epochs) - {"events"} else None
    for variant, n_epochs in epochs.items():
        start, title = member, f"Judging {variant.replace('_', ' ')} at {part.as_of_date.iloc[0]:%Y-%m-%d}"
        member = _fit(fold.earlier, variant, settings, n_epochs, title, encoder, start)
        part[variant] = member.logit(*fold.later.transformer_inputs, keep=False)
        histories.append({"name": title.lower(), **asdict(member.history_)})
        if variant == "words":
            title = title.replace("words", "shuffled words")
            control = _fit(_shuffled(fold.earlier, 0), variant, settings, n_epochs, title, encoder, start)
            part[SHUFFLED] = control.logit(*_shuffled(fold.later, 1).transformer_inputs, keep=False)
    return part, histories


def _compare(
    names: list[str],
    validation: pd.DataFrame,
    judged: pd.DataFrame,
    settings: TransformerSettings,
    epochs: dict[str, float],
    histories: list[dict],
) -> SelectionResult:
    """Choose variant and average by paired differences of log-loss on the judging snapshots."""
    customers = judged.customer_id.to_numpy()
    losses: dict[str, np.ndarray] = {"+".join(names): losses_at_true_level(judged, names)}
    averages: dict[str, dict[str, list[str]]] = {}
    for variant in [name for name in (*VARIANTS, SHUFFLED) if name in judged]:
        table = judged.assign(transformer=judged[variant])
        averages[variant] = {}
        for average in ([*names, "transformer"], ["transformer"]):
            key = f"{'+'.join(average)} ({variant})"
            averages[variant][key] = average
            losses[key] = losses_at_true_level(table, average)

    def best(variant: str) -> str:
        return min(averages[variant], key=lambda key: losses[key].mean())

    def gain(of: str, over: str) -> dict[str, float]:
        return paired_gain(losses[over] - losses[best(of)], customers)

    without = "+".join(names)
    variant, gains = "events", {"events": gain("events", without)}
    for name in list(epochs)[1:]:
        gains[name] = gain(name, best(variant))
        helps = gains[name]["low"] > 0
        if name == "words":
            # more training helps as well, and that somebody wrote: texts must beat shuffled texts
            gains["words_against_shuffled"] = gain(name, best(SHUFFLED))
            helps = helps and gains["words_against_shuffled"]["low"] > 0
        if not helps:
            break
        variant = name
    gains["kept"] = gain(variant, without)
    identifiers = ["customer_id", "as_of_date"]
    tried = validation[identifiers].merge(judged[[*identifiers, *epochs]], how="left", on=identifiers)
    logit = np.where(tried[variant].isna(), validation[names].mean(axis=1), tried[variant])
    columns = {"transformer": logit} | {f"transformer_{v}": tried[v].to_numpy() for v in epochs}
    summary = TransformerSummary(
        averaged=averages[variant][best(variant)] if gains["kept"]["low"] > 0 else names,
        variant=variant,
        epochs=epochs,
        gains=gains,
        losses={key: float(loss.mean()) for key, loss in losses.items()},
        histories=histories,
        settings=asdict(settings),
    )
    return SelectionResult(validation.assign(**columns), settings, summary)


def _fit(
    data: TrainingData,
    variant: str,
    settings: TransformerSettings,
    n_epochs: float | None,
    title: str,
    encoder: Encoder | None = None,
    start: TransformerMember | None = None,
    later: TrainingData | None = None,
) -> TransformerMember:
    """Train one variant; without a number of epochs, stop early on later rows."""
    return TransformerMember(settings).fit(
        data,
        later,
        n_epochs=n_epochs,
        encoder=None if variant == "events" else encoder,
        fine_tuned=variant == "fine_tuned",
        start=start,
        title=title,
    )


def _shuffled(data: TrainingData, seed: int) -> TrainingData:
    """The same rows with texts shuffled between customers."""
    return replace(data, sequences=data.transformer_inputs[1].with_shuffled_words(seed))


def _enough_texts(data: TrainingData) -> bool:
    """Whether enough customers wrote for texts to be tried."""
    if data.sequences is None:
        return False
    wrote = np.where(data.sequences.wrote, 1.0, math.nan)
    return enough_words(wrote[:, None], data.y)


def _make_fold(
    data: TrainingData,
    names: list[str],
    masks: tuple[np.ndarray, np.ndarray],
    validation: pd.DataFrame,
    has_lexical: bool,
) -> _Fold:
    """Select the rows of a fold and compute the log-odds of the tabular members for both parts."""
    X, X_now = fold_features(data, *masks)
    earlier, later = replace(data.take(masks[0]), X=X), replace(data.take(masks[1]), X=X_now)
    part = validation[validation.as_of_date == later.rows.as_of_date.iloc[0]]
    return _Fold(
        replace(earlier, tabular_logit=cross_fitted_base(earlier, names, has_lexical)),
        replace(later, tabular_logit=part[names].mean(axis=1).to_numpy()),
        part,
    )
