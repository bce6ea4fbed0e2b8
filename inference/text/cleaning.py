"""Cleaning of texts before they are tokenised, and the key under which a text is cached."""

import hashlib
import html
import re


def clean_text(text: str) -> str:
    """Take mark-up and control characters out of a text, fold white space, cut what no encoder reads."""
    text = html.unescape(re.sub(r"</?[A-Za-z!][^<>]{0,200}>", " ", text[: 2 * MOST_CHARACTERS]))
    if not text.isprintable():  # a space is the only white space that is
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:MOST_CHARACTERS]


def hash_text(text: str) -> str:
    """Key under which a text's vectors are kept."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


#: Characters beyond these are cut before tokenising: no encoder here reads more.
MOST_CHARACTERS = 20_000
