"""What a customer wrote that moved the score: quotes found by leaving sentences out, with personal data masked."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from inference.embeddings import cached_vectors, hash_text
from inference.encoder import Encoder
from inference.ensemble import ChurnModel
from inference.sequences import Sequences
from inference.text_pools import HALF_LIFE_DAYS, WINDOW_DAYS
from inference.words import WORDS_LOGIT

#: Longest quote; a longer one is cut at a word.
MOST_CHARACTERS = 160
#: Sentences that move the log-odds by less are not worth quoting.
LEAST_EFFECT = 0.02

#: What is masked, and with what; order matters, because what is masked cannot match again.
#: Letters and digits of ASCII: Chinese is written without spaces, so a word boundary would not be one.
PERSONAL_DATA = (
    (re.compile(r"[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), "[e-mail]"),
    (re.compile(r"(?:https?://|www\.)[^\s，。]+", re.IGNORECASE), "[link]"),
    (
        re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"),
        "[account]",
    ),
    (re.compile(r"\+\d(?:[ ()/.-]{0,3}\d){6,14}(?!\d)"), "[phone]"),
    (re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"), "[card]"),
    (
        re.compile(
            r"(?:(?:\b(?:order|invoice|ticket|case|tracking)\s*(?:(?:number|no\.?|nr\.?|id)\s*[:#]?\s*|[:#]\s*))"
            r"|(?:订单号?|单号)\s*[:：#]?\s*|#)[A-Z]{0,4}-?\d[\dA-Z-]{2,}",
            re.IGNORECASE,
        ),
        "[order]",
    ),
    (re.compile(r"(?<![A-Za-z0-9])[A-Z]{1,4}-\d{3,}(?!\d)"), "[order]"),
    (
        re.compile(
            # a date, two years, a price range or a few sizes is no phone number: it has fewer digits, or its own form
            r"(?<![\w$€£.])(?<!\d[./-])(?!(?:\d{4}([./-])\d{1,2}\1\d{1,2}|\d{1,2}([./-])\d{1,2}\2(?:\d{4}|\d{2})|\d{4}[/-]\d{4})"
            r"(?!\d|[./-]\d))(?!\d+[.,]\d{2} ?-)(?=(?:\D{0,3}\d){7})\(?\d(?:[ ()/.-]{0,3}\d){6,14}(?!\d)",
            re.ASCII,
        ),
        "[phone]",
    ),
    (re.compile(r"\d{5,}"), "[number]"),
)


def mask(text: str) -> str:
    """Replace e-mail addresses, links, account, card, order and phone numbers by what they are."""
    for pattern, instead in PERSONAL_DATA:
        text = pattern.sub(instead, text)
    return text


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence of a text begins and ends."""
    ends = [match.end() for match in re.finditer(r"[.!?…]+(?=\s)(?!\s+[\d#])|[。！？]+|;\s", text)]
    bounds = [0, *ends, len(text)]
    spans = [(a, b) for a, b in pairwise(bounds) if text[a:b].strip()]
    return [(b - len(text[a:b].lstrip()), a + len(text[a:b].rstrip())) for a, b in spans]


def quote_words(
    model: ChurnModel, rows: pd.DataFrame, X: pd.DataFrame, sequences: Sequences, direction: np.ndarray
) -> list[str | None]:
    """Quote what moved each customer's score most in a direction.

    Every sentence is left out in turn, and the whole model asked again (occlusion; Zeiler and Fergus 2014).

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
        if best.effect >= LEAST_EFFECT:
            same_text = found[found.slot == best.slot]
            told[position] = _tell(rows.iloc[position], int(best.slot), best.text, same_text, best.name)
    return told


def _variants(sequences: Sequences) -> pd.DataFrame:
    """One row per customer, text and sentence: the text, the sentence's place, the text without it."""
    records = []
    for row, slot in zip(*np.nonzero(sequences.texts >= 0), strict=True):
        text = sequences.words[sequences.texts[row, slot]]
        for start, end in sentences(text):
            rest = f"{text[:start].rstrip()} {text[end:].lstrip()}".strip()
            records.append((row, slot, text, start, end, rest))
    return pd.DataFrame(records, columns=["row", "slot", "text", "start", "end", "rest"])


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
    encoder = Encoder()
    cleaned = [variants.text, variants.rest]
    wanted = {hash_text(text): text for text in pd.concat(cleaned) if text}
    vectors, _ = cached_vectors(encoder.revision, wanted, encoder.encode)
    said = {key: float(model.words.transform(vector[None].astype(np.float64))[0]) for key, vector in vectors.items()}
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
    said = mask(text[found.start.iloc[first] : found.end.iloc[last]])
    if len(said) > MOST_CHARACTERS:
        said = said[:MOST_CHARACTERS].rsplit(" ", 1)[0].rstrip()
        if said.rfind("[") > said.rfind("]"):
            said = said[: said.rfind("[")]  # never half a mask
        said += "…"
    source = "ticket" if str(list(row.text_ids)[slot]).startswith("support_tickets:") else "review"
    days_ago = float(list(row.text_days_ago)[slot])
    written = pd.Timestamp(row.as_of_date) - pd.Timedelta(days=days_ago)
    return f"{source} of {written.day} {written:%B}: “{said}”"
