"""What a customer wrote that moved the score: quotes found by leaving sentences out, with personal data masked."""

from dataclasses import replace

import numpy as np
import pandas as pd

from inference.embeddings import cached_vectors, hash_text
from inference.encoder import Encoder
from inference.ensemble import ChurnModel
from inference.masking import MOST_CHARACTERS, mask, shorten
from inference.sentences import sentences, without_sentence
from inference.sequences import Sequences
from inference.text_pools import HALF_LIFE_DAYS, WINDOW_DAYS
from inference.words import WORDS_LOGIT

#: Sentences that move the log-odds by less are not worth quoting.
LEAST_EFFECT = 0.02


def quote_words(
    model: ChurnModel, rows: pd.DataFrame, X: pd.DataFrame, sequences: Sequences, direction: np.ndarray
) -> list[str | None]:
    """Quote what moved each customer's score most in a direction.

    Every sentence is left out in turn, then every text, and the whole model asked again (occlusion; Zeiler and
    Fergus 2014).

    Parameters
    ----------
    model : ChurnModel
        Reads words.
    rows : DataFrame
        Rows of ``sequence_features`` and ``as_of_date``.
    X : DataFrame
        The model's features of these rows.
    sequences : Sequences
        Their events and texts.
    direction : ndarray of shape (n_rows,)
        1 where what raises the score is wanted, -1 where what lowers it.

    Returns
    -------
    list of str or None
        Such as ``review of 3 May: “arrived broken, nobody answered”``; None where no sentence moved it.
    """
    variants = _variants(sequences)
    if variants.empty:
        return [None] * len(rows)
    row = variants.row.to_numpy()
    effects = model.logit(X, sequences)[row] - _logit_without(model, X, sequences, variants)
    variants = variants.assign(effect=effects * direction[row])
    told: list[str | None] = [None] * len(rows)
    for position, found in variants.groupby("row"):
        best = found.loc[found.effect.idxmax()]
        if best.effect < LEAST_EFFECT:
            continue
        # where sentences say the same, only all of them together are missed
        same_text = found[(found.slot == best.slot) & ~found.whole]
        sentence = same_text.loc[same_text.effect.idxmax()]
        if sentence.effect < LEAST_EFFECT:
            same_text, sentence = found.loc[[best.name]], best
        told[position] = _tell(rows.iloc[position], int(best.slot), best.text, same_text, sentence.name)
    return told


def _variants(sequences: Sequences) -> pd.DataFrame:
    """One row per customer, text and sentence, and one for each whole text: its place, the text without it."""
    records = []
    for row, slot in zip(*np.nonzero(sequences.texts >= 0), strict=True):
        text = sequences.words[sequences.texts[row, slot]]
        spans = sentences(text)
        for start, end in spans:
            records.append((row, slot, text, start, end, without_sentence(text, start, end), False))
        if len(spans) > 1:
            records.append((row, slot, text, spans[0][0], spans[-1][1], "", True))
    return pd.DataFrame(records, columns=["row", "slot", "text", "start", "end", "rest", "whole"])


def _logit_without(model: ChurnModel, X: pd.DataFrame, sequences: Sequences, variants: pd.DataFrame) -> np.ndarray:
    row, slot = variants.row.to_numpy(), variants.slot.to_numpy()
    asked = sequences.take(row)
    words = [*sequences.words, *variants.rest]
    texts = asked.texts.copy()
    texts[np.arange(len(row)), slot] = len(sequences.words) + np.arange(len(row))
    # a text of one sentence is left out as a whole, and those after it move up
    gone = (variants.rest == "").to_numpy()
    texts[gone, slot[gone]] = -1
    order = np.argsort(texts < 0, axis=1, kind="stable")
    without = replace(
        asked,
        words=words,
        texts=np.take_along_axis(texts, order, axis=1),
        text_subjects=np.take_along_axis(asked.text_subjects, order, axis=1),
        text_numbers=np.take_along_axis(asked.text_numbers, order[..., None], axis=1),
    )
    X_without = X.iloc[row].reset_index(drop=True)
    if model.words is not None:
        X_without[WORDS_LOGIT] = X_without[WORDS_LOGIT] - _lost_of_pool(model, asked, variants)
    return model.logit(X_without, without)


def _lost_of_pool(model: ChurnModel, asked: Sequences, variants: pd.DataFrame) -> np.ndarray:
    """By how much each pooled embedding's log-odds fall without the sentence."""
    encoder = Encoder.shared()
    cleaned = [variants.text, variants.rest]
    wanted = {hash_text(text): text for text in pd.concat(cleaned) if text}
    vectors, _ = cached_vectors(encoder.revision, wanted, encoder.encode)
    said = dict(zip(vectors, model.words.transform(np.vstack(list(vectors.values())).astype(np.float64)), strict=True))
    silent = float(model.words.model_.intercept_[0])
    whole, rest = (np.array([said[hash_text(text)] if text else silent for text in column]) for column in cleaned)
    days = np.expm1(asked.text_numbers[..., 0].astype(np.float64))
    weights = np.where((asked.texts >= 0) & (days <= WINDOW_DAYS), 0.5 ** (days / HALF_LIFE_DAYS), 0.0)
    own = weights[np.arange(len(variants)), variants.slot.to_numpy()]
    total = weights.sum(axis=1)
    share = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
    return share * (whole - rest)


def _tell(row: pd.Series, slot: int, text: str, found: pd.DataFrame, best: int) -> str:
    """The sentence with its neighbours, as far as they say the same and fit."""
    first = last = found.index.get_loc(best)
    grown = True
    while grown:
        grown = False
        for a, b in ((first, last + 1), (first - 1, last)):
            outside = b if b > last else a
            if 0 <= outside < len(found) and found.effect.iloc[outside] > 0:
                length = found.end.iloc[b if b > last else last] - found.start.iloc[min(a, first)]
                if length <= MOST_CHARACTERS:
                    first, last, grown = min(a, first), max(b, last), True
                    break
    said = shorten(mask(text[found.start.iloc[first] : found.end.iloc[last]]))
    source = "ticket" if str(list(row.text_ids)[slot]).startswith("support_tickets:") else "review"
    days_ago = float(list(row.text_days_ago)[slot])
    written = pd.Timestamp(row.as_of_date) - pd.Timedelta(days=days_ago)
    return f"{source} of {written.day} {written:%B}: “{said}”"
