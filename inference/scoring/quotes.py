"""Quotes of what a customer wrote that moved the score: occlusion of sentences, with personal data masked."""

from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd

from inference.model.churn_model import ChurnModel
from inference.model.sequences import Columns, Sequences
from inference.model.words import WORDS_LOGIT, WordsModel
from inference.text.cleaning import hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import cached_vectors
from inference.text.masking import MAX_QUOTE_CHARACTERS, mask, shorten
from inference.text.pooling import HALF_LIFE_DAYS, WINDOW_DAYS
from inference.text.sentences import sentences, without_sentence

#: Smallest change of the log-odds by a quoted sentence.
MIN_EFFECT = 0.02
#: A text older than this is quoted with its year.
YEAR_FROM_DAYS = 300


class Variant(NamedTuple):
    """One of a customer's texts with one sentence, or all of them, left out.

    ``row`` and ``slot`` are the positions of the customer, and of the text among the customer's texts. The characters
    from ``start`` to ``end`` are left out of ``text``; ``rest`` is what stays.
    """

    row: int
    slot: int
    text: str
    start: int
    end: int
    rest: str
    #: Whether several sentences are left out together.
    whole: bool


def quote_words(
    model: ChurnModel, rows: Columns, X: pd.DataFrame, sequences: Sequences, direction: np.ndarray, logit: np.ndarray
) -> list[str | None]:
    """Quote what moved each customer's score most in a direction.

    Each sentence, then each text, is left out in turn and the whole model scores the rest (occlusion; Zeiler and
    Fergus 2014).

    Parameters
    ----------
    model : ChurnModel
        A model that reads words.
    rows : DataFrame or mapping
        ``text_ids``, ``text_days_ago`` and ``as_of_date``.
    X, sequences
        The model's inputs of the same rows.
    direction : ndarray of shape (n_rows,)
        1 to quote what raises the score, -1 to quote what lowers it.
    logit : ndarray of shape (n_rows,)
        Log-odds of the model with all texts.

    Returns
    -------
    list of str or None
        Such as ``review of 3 May: “arrived broken, nobody answered”``; None where no sentence moved the score.
    """
    variants = _variants(sequences)
    quotes: list[str | None] = [None] * len(sequences)
    if not variants:
        return quotes
    ids, days_ago, as_of = (list(rows[name]) for name in ("text_ids", "text_days_ago", "as_of_date"))
    row = np.array([variant.row for variant in variants])
    effects = (logit[row] - _logit_without(model, X, sequences, variants)) * direction[row]
    scored = list(zip(variants, effects.tolist(), strict=True))
    for position, of_row in groupby(scored, key=lambda pair: pair[0].row):
        best = _best_passage(list(of_row))
        if best is not None:
            slot, passage = best
            written = pd.Timestamp(as_of[position]) - pd.Timedelta(days=float(days_ago[position][slot]))
            source = "ticket" if str(ids[position][slot]).startswith("support_tickets:") else "review"
            day = f"{written.day} {written:%B}" + (
                f" {written.year}" if days_ago[position][slot] > YEAR_FROM_DAYS else ""
            )
            quotes[position] = f"{source} of {day}: “{passage}”"
    return quotes


def _variants(sequences: Sequences) -> list[Variant]:
    """One per customer, text and sentence, and one for each text of several sentences, by customer."""
    variants = []
    for row, slot in zip(*np.nonzero(sequences.texts >= 0), strict=True):
        text = sequences.words[sequences.texts[row, slot]]
        spans = sentences(text)
        for start, end in spans:
            variants.append(Variant(int(row), int(slot), text, start, end, without_sentence(text, start, end), False))
        if len(spans) > 1:
            variants.append(Variant(int(row), int(slot), text, spans[0][0], spans[-1][1], "", True))
    return variants


def _logit_without(model: ChurnModel, X: pd.DataFrame, sequences: Sequences, variants: list[Variant]) -> np.ndarray:
    """Log-odds of the model for each variant, shape (n_variants,)."""
    row, slot = (np.array(indices) for indices in zip(*((v.row, v.slot) for v in variants), strict=True))
    complete = sequences.take(row)
    words = [*sequences.words, *(variant.rest for variant in variants)]
    texts = complete.texts.copy()
    texts[np.arange(len(row)), slot] = len(sequences.words) + np.arange(len(row))
    # a text left out completely is removed, and the texts after it move up
    removed = np.array([variant.rest == "" for variant in variants])
    texts[removed, slot[removed]] = -1
    order = np.argsort(texts < 0, axis=1, kind="stable")
    occluded = replace(
        complete,
        words=words,
        texts=np.take_along_axis(texts, order, axis=1),
        text_subjects=np.take_along_axis(complete.text_subjects, order, axis=1),
        text_numbers=np.take_along_axis(complete.text_numbers, order[..., None], axis=1),
    )
    X_occluded = X.to_numpy()[row]
    if model.words is not None:
        X_occluded[:, X.columns.get_loc(WORDS_LOGIT)] -= _pooled_effect(model.words, complete, variants, slot)
    return model.logit(pd.DataFrame(X_occluded, columns=X.columns), occluded)


def _pooled_effect(words: WordsModel, complete: Sequences, variants: list[Variant], slot: np.ndarray) -> np.ndarray:
    """Decrease of the pooled embedding's log-odds by leaving out each variant's sentence, shape (n_variants,)."""
    encoder = Encoder.shared()
    whole, rest = [variant.text for variant in variants], [variant.rest for variant in variants]
    texts = {hash_text(text): text for text in (*whole, *rest) if text}
    vectors, _ = cached_vectors(encoder.revision, texts, encoder.encode)
    logits = dict(zip(vectors, words.transform(np.vstack(list(vectors.values())).astype(np.float64)), strict=True))
    before, after = (
        np.array([logits[hash_text(text)] if text else words.intercept_ for text in texts]) for texts in (whole, rest)
    )
    days = np.expm1(complete.text_numbers[..., 0].astype(np.float64))
    weights = np.where((complete.texts >= 0) & (days <= WINDOW_DAYS), 0.5 ** (days / HALF_LIFE_DAYS), 0.0)
    own = weights[np.arange(len(variants)), slot]
    total = weights.sum(axis=1)
    share = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
    return share * (before - after)


def _best_passage(scored: list[tuple[Variant, float]]) -> tuple[int, str] | None:
    """Slot and passage of the strongest effect among a customer's variants; None where all are too small."""
    best, effect = max(scored, key=itemgetter(1))
    if effect < MIN_EFFECT:
        return None
    single = [(variant, own) for variant, own in scored if variant.slot == best.slot and not variant.whole]
    strongest = max(range(len(single)), key=lambda i: single[i][1])
    if single[strongest][1] < MIN_EFFECT:
        # sentences that repeat each other matter only when all of them are left out
        return best.slot, _passage([(best, effect)], 0)
    return best.slot, _passage(single, strongest)


def _passage(scored: list[tuple[Variant, float]], best: int) -> str:
    """Quote a sentence with the neighbours that move the score in the same direction, as far as they fit."""
    first = last = best
    while True:
        for start, end in ((first, last + 1), (first - 1, last)):
            added = end if end > last else start
            if start < 0 or end >= len(scored) or scored[added][1] <= 0:
                continue
            if scored[end][0].end - scored[start][0].start <= MAX_QUOTE_CHARACTERS:
                first, last = start, end
                break
        else:
            break
    return shorten(mask(scored[best][0].text[scored[first][0].start : scored[last][0].end]))
