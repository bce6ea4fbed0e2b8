"""What earns a place in the score: words, and the transformer, judged on later snapshots."""

import math
import time
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from inference.evaluation.paired_gain import paired_gain
from inference.model.members import MEMBERS, BoostingMember
from inference.model.sequences import Sequences
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import TransformerSettings
from inference.model.words import enough_words
from inference.text.encoder.encoder import Encoder
from inference.training.validation import fold_features, losses_at_true_level

#: What the transformer may read, each trained on from the one before: order and timing of events; words as the
#: frozen encoder reads them; words as an encoder reads them that was fine-tuned to the question.
VARIANTS = ("events", "words", "fine_tuned")
#: The control that words must beat: the same network, trained alike, with the words shuffled between texts.
SHUFFLED = "shuffled_words"


@dataclass(frozen=True)
class Material:
    """What members learn from.

    Parameters
    ----------
    rows : DataFrame
        ``customer_id``, ``as_of_date`` and ``horizon_spend``.
    X : DataFrame
        Features, the words' log-odds among them where words earned their place.
    y : ndarray of shape (n_rows,)
        1 for churned, else 0.
    sequences : Sequences
        Events and texts.
    embeddings : ndarray or None
        Pooled embeddings where the tabular members read them.
    names : list of str
        Tabular members that were kept; the transformer adds to the mean of their log-odds.
    """

    rows: pd.DataFrame
    X: pd.DataFrame
    y: np.ndarray
    sequences: Sequences
    embeddings: np.ndarray | None
    names: list[str]

    @property
    def customers(self) -> np.ndarray:
        """Whose row each is."""
        return self.rows.customer_id.to_numpy()

    @property
    def spend(self) -> np.ndarray:
        """Spend in the horizon."""
        return self.rows.horizon_spend.to_numpy(dtype=float)


@dataclass
class Verdict:
    """Whether the transformer earned its place, and how it is to be trained.

    Parameters
    ----------
    averaged : list of str
        Members of the average.
    validation : DataFrame
        The rolling validation with the column ``transformer``, where it did not run equal to the tabular mean.
    settings : TransformerSettings
        As given, or the best of the trials.
    variant : str
        What is kept or came closest: ``events``, ``words`` or ``fine_tuned``.
    epochs : dict of str to float
        Passes over the rows, for each variant.
    gains : dict of str to dict
        ``events``: average with the transformer against without, no words; ``words``: what frozen words add to
        that, and ``words_against_shuffled`` to the same network with words shuffled between texts;
        ``fine_tuned``: what fine-tuning the encoder adds to that; ``kept``: what the choice adds. Each ``mean``,
        ``low`` and ``high`` in nats.
    losses : dict of str to float
        Log-loss of each average that was tried, on the snapshots that judged the transformer.
    histories : list of dict
        Curves of each training.
    seconds : float
        Time that the last training took, on all rows.
    """

    averaged: list[str]
    validation: pd.DataFrame
    settings: TransformerSettings
    variant: str
    epochs: dict[str, float]
    gains: dict[str, dict | None]
    losses: dict[str, float]
    histories: list[dict] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict:
        """Return what is worth keeping with the model, as JSON."""
        names = ("averaged", "variant", "epochs", "gains", "losses", "histories")
        return {name: getattr(self, name) for name in names} | {"settings": asdict(self.settings)}


def judge_transformer(material: Material, folds: list, validation: pd.DataFrame, settings) -> Verdict | None:
    """Train the transformer on the newest folds, and keep it only where it lowers their log-loss beyond chance.

    The fold before those that judge decides how long it trains (and with what settings, where trials are
    asked for), so no snapshot that judges it was used to tune it. Words must gain over events alone and over
    words shuffled between texts, a fine-tuned encoder over a frozen one. Fine-tuning takes most of the time: it
    is tried only where words helped on the fold that tunes, and judged only where it helped there as well.

    Parameters
    ----------
    material : Material
        All training rows.
    folds : list of tuple of ndarray
        Masks of earlier and later rows, oldest first.
    validation : DataFrame
        Out-of-time log-odds of the tabular members on these folds.
    settings : TrainingSettings
        How many snapshots judge, how many trials, and the transformer's own.

    Returns
    -------
    Verdict or None
        None where there are too few later snapshots to judge on.
    """
    if settings.transformer is None or len(folds) < 3:
        return None
    tuning, *judging = folds[-settings.transformer_snapshots - 1 :]
    encoder = Encoder() if _words_to_read(material, tuning[0]) else None
    variants = ["events"] if encoder is None else [name for name in VARIANTS if name != "fine_tuned"]
    if encoder is not None and encoder.transformer is None:
        print(f"{encoder.settings.name} has no transformer to fine-tune: its embeddings are read as they are")
    elif encoder is not None and settings.transformer.fine_tuning != "frozen":
        variants = list(VARIANTS)
    histories: list[dict] = []
    chosen = settings.transformer
    fold = _prepare(material, tuning, validation)
    if settings.trials:
        chosen = search(fold, chosen, settings.trials)
    epochs: dict[str, float] = {}
    lowest = math.inf
    member = None
    for variant in variants:
        member = fold.fit(variant, chosen, None, f"Tuning {variant}", encoder, member)
        histories.append({"name": f"tuning {variant}", **asdict(member.history_)})
        before, lowest = lowest, min(point["log_loss"] for point in member.history_.later)
        if variant != "fine_tuned" or lowest < before:
            epochs[variant] = member.history_.best_epochs
        if lowest >= before:
            print(f"transformer: {variant} did not help on the snapshot that tunes it; nothing further is tried")
            break
    variants = list(epochs)
    parts = []
    for number, masks in enumerate(judging, 1):
        fold = _prepare(material, masks, validation)
        part = _of_snapshot(validation, material, masks[1]).copy()
        member = None
        for variant in variants:
            start, title = member, f"Judging {variant} {number} of {len(judging)}"
            member = fold.fit(variant, chosen, epochs[variant], title, encoder, start)
            part[variant] = member.logit(*fold.later[:3], keep=False)
            histories.append({"name": title.lower(), **asdict(member.history_)})
            if variant == "words":
                control = fold.with_shuffled_words()
                title = f"Judging shuffled words {number} of {len(judging)}"
                part[SHUFFLED] = control.fit(variant, chosen, epochs[variant], title, encoder, start).logit(
                    *control.later[:3], keep=False
                )
        parts.append(part)
    judged = pd.concat(parts, ignore_index=True)
    return _verdict(material.names, validation, judged, chosen, epochs, histories)


def train_transformer(
    material: Material, verdict: Verdict, champion: TransformerMember | None = None
) -> TransformerMember:
    """Train the transformer that was kept on all rows, old and new.

    Parameters
    ----------
    material : Material
        What it learns from.
    verdict : Verdict
        Which transformer was kept.
    champion : TransformerMember, optional
        The champion's, if it reads the same features and the same kind of words: its weights are gone on from.

    Returns
    -------
    TransformerMember
    """
    started = time.monotonic()
    X, y = material.X, material.y
    tabular = cross_fitted_logit(X, y, material.customers, material.names)
    encoder = None if verdict.variant == "events" else Encoder()
    member, steps = None, VARIANTS[: VARIANTS.index(verdict.variant) + 1]
    if champion is not None and champion.settings == verdict.settings:
        member, steps = champion, [verdict.variant]
    for variant in steps:
        member = TransformerMember(verdict.settings).fit(
            *(X, material.sequences, tabular, y, material.spend),
            n_epochs=verdict.epochs[variant],
            start=member,
            title=f"Training {variant}",
            **_reader(variant, encoder),
        )
    verdict.histories.append({"name": "training", **asdict(member.history_)})
    verdict.seconds = time.monotonic() - started
    return member


def search(fold: "_Fold", settings: TransformerSettings, n_trials: int) -> TransformerSettings:
    """Try settings of the network with Optuna, on events and numbers; the log-loss of the fold's snapshot decides.

    The settings given are the first trial, so the choice is never worse there than they are.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def settings_of(trial) -> TransformerSettings:
        return replace(
            settings,
            width=trial.suggest_categorical("width", [32, 48, 64]),
            event_layers=trial.suggest_int("event_layers", 1, 3),
            dropout=trial.suggest_float("dropout", 0.1, 0.4),
            learning_rate=trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
        )

    def loss(trial) -> float:
        member = fold.fit("events", settings_of(trial), None, f"Trial {trial.number + 1} of {n_trials}")
        return min(point["log_loss"] for point in member.history_.later)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=settings.seed))
    tried = ("width", "event_layers", "dropout", "learning_rate", "weight_decay")
    study.enqueue_trial({name: getattr(settings, name) for name in tried})
    study.optimize(loss, n_trials=n_trials)
    return settings_of(study.best_trial)


def cross_fitted_logit(X: pd.DataFrame, y: np.ndarray, customers: np.ndarray, names: list[str]) -> np.ndarray:
    """Mean log-odds of the tabular members for their own training rows, each predicted from other customers.

    A residual learned on what members know by heart would learn nothing.
    """
    result = np.zeros(len(y))
    for learned, left_out in GroupKFold(3).split(X, y, customers):
        members = [BoostingMember(n_seeds=1) if name == BoostingMember.name else MEMBERS[name]() for name in names]
        logits = [m.fit(X.iloc[learned], y[learned]).logit(X.iloc[left_out]) for m in members]
        result[left_out] = np.mean(logits, axis=0)
    return result


def _verdict(
    names: list[str],
    validation: pd.DataFrame,
    judged: pd.DataFrame,
    settings: TransformerSettings,
    epochs: dict[str, float],
    histories: list[dict],
) -> Verdict:
    """Compare averages on the snapshots that judge."""
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

    without = losses["+".join(names)]
    gains = {"events": paired_gain(without - losses[best("events")], customers)}
    variant = "events"
    for name in list(epochs)[1:]:
        gains[name] = paired_gain(losses[best(variant)] - losses[best(name)], customers)
        beaten = [gains[name]["low"] > 0]
        if name == "words":
            # more training, and when somebody wrote, help as well: only words that beat other words are heard
            gains["words_against_shuffled"] = paired_gain(losses[best(SHUFFLED)] - losses[best(name)], customers)
            beaten.append(gains["words_against_shuffled"]["low"] > 0)
        if not all(beaten):
            break
        variant = name
    gains["kept"] = paired_gain(without - losses[best(variant)], customers)
    kept = gains["kept"]["low"] > 0
    key = ["customer_id", "as_of_date"]
    tried = validation[key].merge(judged[[*key, *epochs]], how="left", on=key)
    transformer = np.where(tried[variant].isna(), validation[names].mean(axis=1), tried[variant])
    return Verdict(
        averaged=averages[variant][best(variant)] if kept else names,
        validation=validation.assign(
            transformer=transformer, **{f"transformer_{v}": tried[v].to_numpy() for v in epochs}
        ),
        settings=settings,
        variant=variant,
        epochs=epochs,
        gains=gains,
        losses={key: float(loss.mean()) for key, loss in losses.items()},
        histories=histories,
    )


def _reader(variant: str, encoder: Encoder | None) -> dict:
    return {"encoder": None if variant == "events" else encoder, "fine_tuned": variant == "fine_tuned"}


def _words_to_read(material: Material, earlier: np.ndarray) -> bool:
    wrote = np.where(material.sequences.wrote[earlier], 1.0, math.nan)
    return enough_words(wrote[:, None], material.y[earlier])


@dataclass(frozen=True)
class _Fold:
    """A fold's earlier rows and its later snapshot, with what the tabular members say of both."""

    X: pd.DataFrame
    sequences: Sequences
    tabular_logit: np.ndarray
    y: np.ndarray
    spend: np.ndarray
    later: tuple[pd.DataFrame, Sequences, np.ndarray, np.ndarray]

    def with_shuffled_words(self) -> "_Fold":
        """The same fold, in which every text has another's words."""
        X, sequences, *others = self.later
        later = (X, sequences.with_shuffled_words(1), *others)
        return replace(self, sequences=self.sequences.with_shuffled_words(), later=later)

    def fit(
        self,
        variant: str,
        settings: TransformerSettings,
        n_epochs: float | None,
        title: str,
        encoder: Encoder | None = None,
        start: TransformerMember | None = None,
    ) -> TransformerMember:
        """Train on the earlier rows; without a number of epochs, stop early on the later snapshot."""
        later = self.later if n_epochs is None else None
        return TransformerMember(settings).fit(
            *(self.X, self.sequences, self.tabular_logit, self.y, self.spend),
            n_epochs=n_epochs,
            later=later,
            start=start,
            title=title,
            **_reader(variant, encoder),
        )


def _prepare(material: Material, masks: tuple[np.ndarray, np.ndarray], validation: pd.DataFrame) -> _Fold:
    earlier, now = masks
    customers, y = material.customers, material.y
    X, X_now = fold_features(material.X, y, customers, material.embeddings, earlier, now)
    said = _of_snapshot(validation, material, now)[material.names].mean(axis=1).to_numpy()
    return _Fold(
        X,
        material.sequences.take(earlier),
        cross_fitted_logit(X, y[earlier], customers[earlier], material.names),
        y[earlier],
        material.spend[earlier],
        (X_now, material.sequences.take(now), said, y[now]),
    )


def _of_snapshot(validation: pd.DataFrame, material: Material, now: np.ndarray) -> pd.DataFrame:
    return validation[validation.as_of_date == material.rows.as_of_date[now].iloc[0]]
