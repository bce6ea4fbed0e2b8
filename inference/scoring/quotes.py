"""What a customer wrote that moved the score: quotes found by leaving sentences out, with personal data masked."""

from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd

from inference.model.churn_model import ChurnModel
from inference.model.sequences import Columns, Sequences
from inference.model.words import WORDS_LOGIT
from inference.text.cleaning import hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import cached_vectors
from inference.text.masking import MAX_QUOTE_CHARACTERS, mask, shorten
from inference.text.pooling import HALF_LIFE_DAYS, WINDOW_DAYS
from inference.text.sentences import sentences, without_sentence

#: Sentences that move the log-odds by less are not worth quoting.
LEAST_EFFECT = 0.02


class Variant(NamedTuple):
    """A customer's texts without one sentence, or without one text.

    Attributes
    ----------
    row, slot : int
        The customer's place among the rows, the text's among the customer's.
    text : str
        The whole text.
    start, end : int
        Where what is left out begins and ends.
    rest : str
        The text without it.
    whole : bool
        Whether several sentences are left out together.
    """

    row: int
    slot: int
    text: str
    start: int
    end: int
    rest: str
    whole: bool


def quote_words(
    model: ChurnModel,
    rows: Columns,
    X: pd.DataFrame,
    sequences: Sequences,
    direction: np.ndarray,
    logit: np.ndarray,
) -> list[str | None]:
    """Quote what moved each customer's score most in a direction.

    Every sentence is left out in turn, then every text, and the whole model asked again (occlusion; Zeiler and
    Fergus 2014).

    Parameters
    ----------
    model : ChurnModel
        Reads words.
    rows : DataFrame or mapping
        ``text_ids``, ``text_days_ago`` and ``as_of_date``.
    X : DataFrame
        The model's features of these rows.
    sequences : Sequences
        Their events and texts.
    direction : ndarray of shape (n_rows,)
        1 where what raises the score is wanted, -1 where what lowers it.
    logit : ndarray of shape (n_rows,)
        What the model says with all that was written, in log-odds.

    Returns
    -------
    list of str or None
        Such as ``review of 3 May: “arrived broken, nobody answered”``; None where no sentence moved it.
    """
    variants = _variants(sequences)
    told: list[str | None] = [None] * len(sequences)
    ids, days_ago, as_of = (list(rows[name]) for name in ("text_ids", "text_days_ago", "as_of_date"))
    if not variants:
        return told
    row = np.array([variant.row for variant in variants])
    effects = (logit[row] - _logit_without(model, X, sequences, variants)) * direction[row]
    for position, of_row in groupby(zip(variants, effects.tolist(), strict=True), key=lambda found: found[0].row):
        found = list(of_row)
        best, effect = max(found, key=itemgetter(1))
        if effect < LEAST_EFFECT:
            continue
        # where sentences say the same, only all of them together are missed
        of_text = [(variant, own) for variant, own in found if variant.slot == best.slot and not variant.whole]
        strongest = max(range(len(of_text)), key=lambda i, of_text=of_text: of_text[i][1])
        if of_text[strongest][1] < LEAST_EFFECT:
            of_text, strongest = [(best, effect)], 0
        slot = of_text[strongest][0].slot
        written = pd.Timestamp(as_of[position]) - pd.Timedelta(days=float(days_ago[position][slot]))
        source = "ticket" if str(ids[position][slot]).startswith("support_tickets:") else "review"
        told[position] = f"{source} of {written.day} {written:%B}: “{_said(of_text, strongest)}”"
    return told


def _variants(sequences: Sequences) -> list[Variant]:
    """One per customer, text and sentence, and one for each whole text, by customer."""
    found = []
    for row, slot in zip(*np.nonzero(sequences.texts >= 0), strict=True):
        text = sequences.words[sequences.texts[row, slot]]
        spans = sentences(text)
        for start, end in spans:
            found.append(Variant(int(row), int(slot), text, start, end, without_sentence(text, start, end), False))
        if len(spans) > 1:
            found.append(Variant(int(row), int(slot), text, spans[0][0], spans[-1][1], "", True))
    return found


def _logit_without(model: ChurnModel, X: pd.DataFrame, sequences: Sequences, variants: list[Variant]) -> np.ndarray:
    row, slot = (np.array(indices) for indices in zip(*((v.row, v.slot) for v in variants), strict=True))
    asked = sequences.take(row)
    words = [*sequences.words, *(variant.rest for variant in variants)]
    texts = asked.texts.copy()
    texts[np.arange(len(row)), slot] = len(sequences.words) + np.arange(len(row))
    # a text of one sentence is left out as a whole, and those after it move up
    gone = np.array([variant.rest == "" for variant in variants])
    texts[gone, slot[gone]] = -1
    order = np.argsort(texts < 0, axis=1, kind="stable")
    without = replace(
        asked,
        words=words,
        texts=np.take_along_axis(texts, order, axis=1),
        text_subjects=np.take_along_axis(asked.text_subjects, order, axis=1),
        text_numbers=np.take_along_axis(asked.text_numbers, order[..., None], axis=1),
    )
    X_without = X.to_numpy()[row]
    if model.words is not None:
        X_without[:, X.columns.get_loc(WORDS_LOGIT)] -= _lost_of_pool(model, asked, variants, slot)
    return model.logit(pd.DataFrame(X_without, columns=X.columns), without)


def _lost_of_pool(model: ChurnModel, asked: Sequences, variants: list[Variant], slot: np.ndarray) -> np.ndarray:
    """By how much each pooled embedding's log-odds fall without the sentence."""
    encoder = Encoder.shared()
    whole, rest = [variant.text for variant in variants], [variant.rest for variant in variants]
    wanted = {hash_text(text): text for text in (*whole, *rest) if text}
    vectors, _ = cached_vectors(encoder.revision, wanted, encoder.encode)
    said = dict(zip(vectors, model.words.transform(np.vstack(list(vectors.values())).astype(np.float64)), strict=True))
    silent = model.words.intercept_
    before, after = (np.array([said[hash_text(text)] if text else silent for text in texts]) for texts in (whole, rest))
    days = np.expm1(asked.text_numbers[..., 0].astype(np.float64))
    weights = np.where((asked.texts >= 0) & (days <= WINDOW_DAYS), 0.5 ** (days / HALF_LIFE_DAYS), 0.0)
    own = weights[np.arange(len(variants)), slot]
    total = weights.sum(axis=1)
    share = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
    return share * (before - after)


def _said(found: list[tuple[Variant, float]], best: int) -> str:
    """Quote the sentence with its neighbours, as far as they say the same and fit."""
    first = last = best
    grown = True
    while grown:
        grown = False
        for a, b in ((first, last + 1), (first - 1, last)):
            outside = b if b > last else a
            if 0 <= outside < len(found) and found[outside][1] > 0:
                length = found[b if b > last else last][0].end - found[min(a, first)][0].start
                if length <= MAX_QUOTE_CHARACTERS:
                    first, last, grown = min(a, first), max(b, last), True
                    break
    return shorten(mask(found[best][0].text[found[first][0].start : found[last][0].end]))
