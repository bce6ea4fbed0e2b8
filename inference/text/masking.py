"""Texts of customers for display: personal data masked, long texts truncated."""

import re

import pandas as pd
import pyarrow as pa

from inference.text.cleaning import clean_text, hash_text

#: Longest quote in a reason; a longer one is truncated at a word.
MAX_QUOTE_CHARACTERS = 160
#: Longest beginning of a text in search results.
MAX_SHOWN_CHARACTERS = 300

#: Patterns and their placeholders, applied in order, so that masked data cannot match a later pattern. They name ASCII
#: letters and digits instead of word boundaries, which Chinese does not have.
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
            # not a date, two years, a price range or a few sizes: they have fewer digits, or another form
            r"(?<![\w$€£.])(?<!\d[./-])(?!(?:\d{4}([./-])\d{1,2}\1\d{1,2}|\d{1,2}([./-])\d{1,2}\2(?:\d{4}|\d{2})|\d{4}[/-]\d{4})"
            r"(?!\d|[./-]\d))(?!\d+[.,]\d{2} ?-)(?=(?:\D{0,3}\d){7})\(?\d(?:[ ()/.-]{0,3}\d){6,14}(?!\d)",
            re.ASCII,
        ),
        "[phone]",
    ),
    (re.compile(r"\d{5,}"), "[number]"),
)

#: Matches every text that any of the patterns matches, and few others.
SUSPECT = re.compile(r"[\d@]|https?://|www\.", re.IGNORECASE)


def mask(text: str) -> str:
    """Replace e-mail addresses, links, account, card, order and phone numbers by placeholders."""
    if SUSPECT.search(text) is None:
        return text
    for pattern, placeholder in PERSONAL_DATA:
        text = pattern.sub(placeholder, text)
    return text


def shorten(text: str, max_characters: int = MAX_QUOTE_CHARACTERS) -> str:
    """Truncate a masked text at a word, and not within a placeholder."""
    if len(text) <= max_characters:
        return text
    text = text[:max_characters].rsplit(" ", 1)[0].rstrip()
    if text.rfind("[") > text.rfind("]"):
        text = text[: text.rfind("[")]
    return text + "…"


def masked_quotes(texts: pd.DataFrame, built: pd.DataFrame | None = None) -> pa.Table:
    """Quote the beginning of each text (``text_id``, ``text``), with personal data masked.

    Returns
    -------
    pyarrow.Table
        ``text_id``, ``text_hash`` and ``quote`` of each text without a row of the same id and hash in ``built``.
    """
    texts = texts.assign(text_hash=texts.text.map(hash_text))
    if built is not None:
        key = ["text_id", "text_hash"]
        texts = texts[~pd.MultiIndex.from_frame(texts[key]).isin(pd.MultiIndex.from_frame(built[key]))]
    quotes = [shorten(mask(clean_text(text)), MAX_SHOWN_CHARACTERS) for text in texts.text]
    schema = pa.schema(dict.fromkeys(["text_id", "text_hash", "quote"], pa.string()))
    return pa.Table.from_pandas(texts.assign(quote=quotes), schema, preserve_index=False)
