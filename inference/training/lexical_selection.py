"""Model selection: whether single words improve the tabular members on later snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from inference.evaluation.metrics import paired_gain
from inference.model.lexical import LexicalModel, texts_of
from inference.model.training_data import TrainingData
from inference.model.words import enough_words
from inference.progress import track
from inference.threads import n_threads, side_by_side
from inference.training.validation import cross_fitted_logit, fold_features, losses_at_true_level

#: Standard errors by which the gain must be above zero: one-sided 90 %. Weights that are shrunk towards zero lose
#: little where the gain was chance.
GATE_ERRORS = 1.2816
KEY = ["customer_id", "as_of_date"]


@dataclass(frozen=True)
class LexicalSelection:
    """Whether words join the score."""

    #: Decrease of the log-loss on later snapshots, as ``paired_gain``: over the tabular members, and over the same
    #: model with texts shuffled between customers.
    gain: dict[str, float]
    against_shuffled: dict[str, float]
    residuals: pd.Series  # what words add to the log-odds of each row of the validation, by its index

    @property
    def is_kept(self) -> bool:
        """Whether words helped beyond chance."""
        return self.gain["low"] > 0 and self.against_shuffled["low"] > 0


def select_lexical(
    data: TrainingData, names: Sequence[str], folds: Sequence[tuple[np.ndarray, np.ndarray]], validation: pd.DataFrame
) -> LexicalSelection | None:
    """Learn words from the rows before each later snapshot, and compare the log-loss there, pooled over all snapshots.

    None with too few texts, or fewer than two later snapshots that have enough before them.

    Parameters
    ----------
    data : TrainingData
        All training rows.
    names : sequence of str
        Tabular members of the average.
    folds : sequence of tuple of ndarray
        Masks of earlier and later rows, one per later snapshot.
    validation : DataFrame
        Out-of-time log-odds of the members on these folds.
    """
    usable = [masks for masks in folds if _enough_texts(data.take(masks[0]))]
    if len(usable) < 2:
        return None
    data = replace(data, rows=data.rows[KEY])  # the others are copied to the processes in vain
    tasks = [(data, list(names), masks) for masks in usable]
    judged = track(side_by_side(_judge, tasks, n_threads()), "Validating words", total=len(tasks))
    residuals = pd.concat(list(judged)).set_index(KEY)
    index = pd.MultiIndex.from_frame(validation[KEY])
    added = residuals.reindex(index).set_axis(validation.index)
    table = validation[added.words.notna()]
    tabular, customers = table[list(names)].mean(axis=1), table.customer_id.to_numpy()

    def losses(residual: pd.Series | float) -> np.ndarray:
        return losses_at_true_level(table.assign(average=tabular + residual), ["average"])

    with_words = losses(added.words[table.index])
    without, shuffled = losses(0.0), losses(added.shuffled[table.index])
    gain, against = (paired_gain(other - with_words, customers, GATE_ERRORS) for other in (without, shuffled))
    return LexicalSelection(gain, against, added.words.fillna(0.0))


def train_lexical(data: TrainingData, tabular_logit: np.ndarray) -> LexicalModel:
    """Learn words from all rows; ``tabular_logit`` is cross-fitted."""
    return LexicalModel().fit(_texts(data), data.y, tabular_logit, data.customers)


def cross_fitted_base(data: TrainingData, names: list[str], has_lexical: bool) -> np.ndarray:
    """Log-odds that the transformer adds to: ``cross_fitted_logit``, and what words add, cross-fitted as well."""
    tabular_logit = cross_fitted_logit(data, names)
    result = tabular_logit.copy()
    if has_lexical:
        for fitted, left_out in GroupKFold(3).split(tabular_logit, data.y, data.customers):
            words = train_lexical(data.take(fitted), tabular_logit[fitted])
            result[left_out] += words.residual(_texts(data.take(left_out)))
    return result


def _judge(data: TrainingData, names: list[str], masks: tuple[np.ndarray, np.ndarray]) -> pd.DataFrame:
    """Log-odds that own and shuffled words add to the later rows of a fold."""
    X, _ = fold_features(data, *masks)
    earlier = replace(data.take(masks[0]), X=X)
    tabular_logit = cross_fitted_logit(earlier, names)
    result = data.rows.loc[masks[1], KEY].copy()
    assert data.sequences is not None
    for name, sequences in (("words", data.sequences), ("shuffled", data.sequences.with_shuffled_words())):
        shown = replace(data, sequences=sequences)
        words = train_lexical(shown.take(masks[0]), tabular_logit)
        result[name] = words.residual(_texts(shown.take(masks[1])))
    return result


def _texts(data: TrainingData) -> list[str]:
    if data.sequences is None:
        raise ValueError("words need sequences")
    return texts_of(data.sequences)


def _enough_texts(data: TrainingData) -> bool:
    wrote = np.where(data.sequences.wrote, 1.0, np.nan) if data.sequences is not None else np.full(len(data), np.nan)
    return enough_words(wrote[:, None], data.y)
