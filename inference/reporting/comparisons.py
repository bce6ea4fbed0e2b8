"""Scores of members, baselines and ablations on the snapshots that validated the champion."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pandas as pd
import yaml

from inference.evaluation.metrics import auroc_interval, best_f1_threshold, evaluate, paired_gain
from inference.features.attributes import PREFIX
from inference.home import PROJECT_DIR
from inference.model.churn_model import ChurnModel
from inference.model.members import MEMBERS
from inference.model.words import WORDS_LOGIT, embedding_matrix, enough_words
from inference.progress import track
from inference.reporting.baselines import BASELINES, Baseline
from inference.training.rows import training_data
from inference.training.settings import TrainingSettings
from inference.training.train import MIN_GAIN_OF_WORDS
from inference.training.validation import (
    fold_features,
    gain_of_words,
    losses_at_true_level,
    rolling_folds,
    rolling_validation,
)

KEY = ["customer_id", "as_of_date"]

#: Feature tables that ablations leave out, one at a time.
FEATURE_TABLES = ("order", "engagement", "review", "support", "campaign", "forecast")

#: Variants of the transformer among the columns of a validation, and what they read.
TRANSFORMER_VARIANTS = {
    "transformer_events": "events and numbers",
    "transformer_words": "words, events and numbers",
    "transformer_fine_tuned": "words by a fine-tuned encoder, events and numbers",
}


#: Turns log-odds of rows into probabilities at the level that the champion's anchor expected at each snapshot.
Level: TypeAlias = Callable[[pd.DataFrame, np.ndarray], np.ndarray]


def score_metrics(name: str, about: str, predictions: pd.DataFrame, logit: np.ndarray, level: Level) -> dict:
    """Metrics of one score at the champion's level, and its gain over the champion's average.

    ``predictions`` are validation rows with ``churned`` and ``average``, the champion's log-odds; ``logit``, of shape
    (n_rows,), are the log-odds of the score.
    """
    from empulse.metrics import empc_score  # takes a second to import; its defaults are the costs of Verbraken 2013

    probability = level(predictions, logit)
    threshold = best_f1_threshold(predictions.churned, probability)
    loss = losses_at_true_level(predictions.assign(candidate=logit), ["candidate"])
    reference = losses_at_true_level(predictions, ["average"])
    aurocs = [
        auroc_interval(predictions.churned.to_numpy()[positions], logit[positions])
        for positions in predictions.groupby("as_of_date").indices.values()
    ]
    return {
        "name": name,
        "about": about,
        **vars(evaluate(predictions.churned, probability, threshold)),
        "empc": float(empc_score(predictions.churned.to_numpy(), probability)),
        "auroc_by_snapshot": [auroc for auroc, _, _ in aurocs],
        "mean_auroc": float(np.mean([auroc for auroc, _, _ in aurocs])),
        "newest": dict(zip(("auroc", "auroc_low", "auroc_high"), aurocs[-1], strict=True)),
        "against_average": paired_gain(reference - loss, predictions.customer_id),
    }


def member_metrics(model: ChurnModel, predictions: pd.DataFrame, level: Level) -> list[dict]:
    """Metrics of the champion's average, of each member alone, and of averages with other variants."""
    names = [name for name in MEMBERS if name in predictions]
    listed = [("Churn Radar", "average of " + ", ".join(model.names), predictions.average)]
    listed += [(name, "member alone", predictions[name]) for name in names]
    variants = [name for name in TRANSFORMER_VARIANTS if name in predictions]
    for variant in variants:
        title = variant.replace("_", ", ")
        listed.append((title, TRANSFORMER_VARIANTS[variant], predictions[variant]))
        listed.append((f"average with {title}", "all members", predictions[[*names, variant]].mean(axis=1)))
    if variants:
        listed.append(("average without transformer", ", ".join(names), predictions[names].mean(axis=1)))
    if "without_words" in predictions:
        listed.append(("average without words", "no text embeddings", predictions.without_words))
    return [score_metrics(name, about, predictions, logit.to_numpy(), level) for name, about, logit in listed]


class Bench:
    """Trains what the champion is compared with, on the folds of its validation.

    ``rows`` are labelled rows with features, ordered by snapshot and customer; ``predictions`` are validation rows with
    ``churned`` and ``average``.
    """

    def __init__(self, model: ChurnModel, rows: pd.DataFrame, predictions: pd.DataFrame, level: Level) -> None:
        # newer snapshots were labelled after the validation
        rows = rows[rows.as_of_date <= predictions.as_of_date.max()].reset_index(drop=True)
        self.model, self.rows, self.predictions, self.level = model, rows, predictions, level
        self.data = training_data(rows, [name for name in model.features if name != WORDS_LOGIT])
        self.X, self.y = self.data.X, self.data.y
        self.settings = TrainingSettings(validation_snapshots=predictions.as_of_date.nunique())
        self.folds = rolling_folds(rows, model.horizon_days, self.settings)
        if model.words is not None:
            self.data = replace(self.data, embeddings=embedding_matrix(rows))

    def baselines(self) -> list[dict]:
        """Metrics of every baseline, fitted on what was known before each snapshot, and the seconds it took."""
        listed = []
        for baseline in track(BASELINES, "Baselines"):
            started = time.monotonic()

            def logit(earlier: np.ndarray, now: np.ndarray, baseline: Baseline = baseline) -> np.ndarray:
                return baseline.logit(self.X[earlier], self.y[earlier], self.rows[now], self.X[now])

            metrics = self._metrics(baseline.name, baseline.description, logit)
            listed.append(metrics | {"seconds": time.monotonic() - started})
        return listed

    def ablations(self) -> list[dict]:
        """Metrics of the tabular average, trained again with all features and without each group of them."""
        groups: dict[str, list[str]] = {"nothing": []}
        groups |= {f"{table} features": _columns_of(table) for table in FEATURE_TABLES}
        groups["words"] = [WORDS_LOGIT, *(c for c in self.X if "complaint" in c or c == "rating_words_gap")]
        if attributes := [c for c in self.X if c.startswith(PREFIX)]:
            groups["customer features"] = attributes
        listed = []
        for name, columns in track(list(groups.items()), "Ablations"):
            if columns and not set(columns) & {*self.X.columns, WORDS_LOGIT}:
                continue

            def logit(earlier: np.ndarray, now: np.ndarray, columns: list[str] = columns) -> np.ndarray:
                X, X_now = fold_features(self.data, earlier, now)
                kept = [c for c in X if c not in columns]
                members = [type(member)() for member in self.model.members]
                return np.mean([m.fit(X[kept], self.y[earlier]).logit(X_now[kept]) for m in members], axis=0)

            listed.append(self._metrics(f"without {name}", "tabular members", logit))
        return listed

    def shuffled_control(self) -> dict | None:
        """Gain of words with each customer's own texts and with another customer's, which must be below the minimum.

        None where there are too few texts or snapshots.
        """
        embeddings = embedding_matrix(self.rows)
        if embeddings is None or not enough_words(embeddings, self.y):
            return None
        rng, shuffled = np.random.default_rng(0), embeddings.copy()
        for positions in self.rows.groupby("as_of_date").indices.values():
            shuffled[positions] = embeddings[rng.permutation(positions)]

        def validate(embeddings: np.ndarray | None) -> pd.DataFrame:
            data = replace(self.data, embeddings=embeddings)
            return rolling_validation(data, self.model.horizon_days, self.settings)

        without = validate(None)
        gains = {
            name: gain_of_words(without, validate(given))
            for name, given in (("own", embeddings), ("shuffled", shuffled))
        }
        return gains | {"least": MIN_GAIN_OF_WORDS} if all(gains.values()) else None

    def _metrics(self, name: str, about: str, logit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict:
        """Metrics of log-odds that a function returns for the masks of each fold."""
        parts = [self.rows.loc[now, KEY].assign(logit=logit(earlier, now)) for earlier, now in self.folds]
        merged = self.predictions[KEY].merge(pd.concat(parts), on=KEY, how="left")
        return score_metrics(name, about, self.predictions, merged.logit.to_numpy(), self.level)


def _columns_of(table: str) -> list[str]:
    described = yaml.safe_load((PROJECT_DIR / "models" / "features" / f"{table}_features.yml").read_text())
    return [c["name"] for c in described["models"][0]["columns"] if c["name"] not in KEY]
