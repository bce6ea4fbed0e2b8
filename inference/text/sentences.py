"""Splitting of a text into sentences, and removal of one."""

import re
from itertools import pairwise


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence of a text."""
    ends = [match.end() for match in re.finditer(r"[.!?…]+(?=\s)(?!\s+[\d#])|[。！？]+|;\s", text)]
    bounds = [0, *ends, len(text)]
    spans = [(a, b) for a, b in pairwise(bounds) if text[a:b].strip()]
    return [(b - len(text[a:b].lstrip()), a + len(text[a:b].rstrip())) for a, b in spans]


def without_sentence(text: str, start: int, end: int) -> str:
    """Remove a sentence from a text."""
    return f"{text[:start].rstrip()} {text[end:].lstrip()}".strip()
