"""What customers wrote, fit to be shown: personal data masked, long texts cut."""

import re

import pandas as pd
import pyarrow as pa

from inference.text.cleaning import clean_text, hash_text

#: Longest quote; a longer one is cut at a word.
MOST_CHARACTERS = 160
#: Longest beginning of a text that is shown where it is found.
MOST_SHOWN = 300

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

#: Part of whatever is masked; most texts hold none of it.
SUSPECT = re.compile(r"[\d@]|https?://|www\.", re.IGNORECASE)


def mask(text: str) -> str:
    """Replace e-mail addresses, links, account, card, order and phone numbers by what they are."""
    if SUSPECT.search(text) is None:
        return text
    for pattern, instead in PERSONAL_DATA:
        text = pattern.sub(instead, text)
    return text


def shorten(said: str, most_characters: int = MOST_CHARACTERS) -> str:
    """Cut a masked text at a word where it is too long, never within a mask."""
    if len(said) <= most_characters:
        return said
    said = said[:most_characters].rsplit(" ", 1)[0].rstrip()
    if said.rfind("[") > said.rfind("]"):
        said = said[: said.rfind("[")]  # never half a mask
    return said + "…"


def masked_quotes(texts: pd.DataFrame, built: pd.DataFrame | None = None) -> pa.Table:
    """Quote what may be shown of each text: its beginning, with personal data masked.

    Parameters
    ----------
    texts : DataFrame
        ``text_id`` and ``text``.
    built : DataFrame, optional
        ``text_id`` and ``text_hash`` of the quotes that are there; they are not made again.

    Returns
    -------
    pyarrow.Table
        ``text_id``, ``text_hash`` and ``quote``, one row per text that is new or changed.
    """
    texts = texts.assign(text_hash=texts.text.map(hash_text))
    if built is not None:
        key = ["text_id", "text_hash"]
        texts = texts[~pd.MultiIndex.from_frame(texts[key]).isin(pd.MultiIndex.from_frame(built[key]))]
    columns = {
        "text_id": texts.text_id,
        "text_hash": texts.text_hash,
        "quote": [shorten(mask(clean_text(text)), MOST_SHOWN) for text in texts.text],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
