"""Cleaning of texts before they are tokenised, and the hash that is their key in caches."""

import hashlib
import html
import re

#: Texts are cut to this many characters before tokenising; encoders truncate to fewer tokens anyway.
MAX_CHARACTERS = 20_000


def clean_text(text: str) -> str:
    """Remove mark-up and control characters, collapse white space, and cut to ``MAX_CHARACTERS``."""
    # mark-up that was written as entities, such as &lt;b&gt;, goes as well
    text = re.sub(r"</?[A-Za-z!][^<>]{0,200}>", " ", html.unescape(text[: 2 * MAX_CHARACTERS]))
    if not text.isprintable():  # white space other than a space is not printable either
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:MAX_CHARACTERS]


def hash_text(text: str) -> str:
    """Hash of a text, 32 hexadecimal digits: its key in caches."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
