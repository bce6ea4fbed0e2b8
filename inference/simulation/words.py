"""Texts of simulated customers, assembled at random from the phrases in ``phrases.json``.

A text is an opening, a core and perhaps an aside, in a style. The core of a complaint is about an aspect with a
severity; the core of a praise is about an aspect. Negations ("not late at all") and mixed opinions ensure that single
words do not separate complaints from praise.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ASPECTS = ("delivery", "quality", "price", "service", "returns")


@dataclass(frozen=True)
class Bank:
    """Phrases of one language; ``{item}``, ``{days}`` and ``{name}`` are filled in."""

    items: list[str]
    names: list[str]
    openings: list[str]
    asides: list[str]
    #: By severity.
    endings: dict[str, list[str]]
    #: By aspect and severity.
    complaints: dict[str, dict[str, list[str]]]
    #: By aspect.
    praises: dict[str, list[str]]
    neutral: list[str]
    joiners: list[str]
    #: What separates sentences.
    space: str


PHRASES = json.loads(Path(__file__).with_name("phrases.json").read_text(encoding="utf-8"))
LANGUAGES = {language: Bank(**phrases) for language, phrases in PHRASES.items()}
ENGLISH = LANGUAGES["en"]


def complaint(bank: Bank, aspect: str, severity: str, rng: np.random.Generator) -> str:
    """Write about an incident; a third of the texts also praise something else."""
    core = _pick(bank.complaints[aspect][severity], rng)
    if rng.random() < 0.33:
        other = _pick(ASPECTS, rng)
        if other != aspect:
            core = _pick(bank.praises[other], rng) + _pick(bank.joiners, rng) + core
    return _assemble(bank, core, _pick(bank.endings[severity], rng), rng)


def praise(bank: Bank, rng: np.random.Generator) -> str:
    """Write a positive text."""
    return _assemble(bank, _pick(bank.praises[_pick(ASPECTS, rng)], rng), "", rng)


def neutral(bank: Bank, rng: np.random.Generator) -> str:
    """Write a text without an opinion."""
    return _assemble(bank, _pick(bank.neutral, rng), "", rng)


def _assemble(bank: Bank, core: str, ending: str, rng: np.random.Generator) -> str:
    stop = "." if bank.space else "。"
    parts = [_pick(bank.openings, rng), core[:1].upper() + core[1:] + stop, ending]
    if rng.random() < 0.3:
        parts.insert(int(rng.integers(1, 3)), _pick(bank.asides, rng))
    text = bank.space.join(part for part in parts if part)
    text = text.format(item=_pick(bank.items, rng), days=int(rng.integers(5, 40)), name=_pick(bank.names, rng))
    style = rng.random()
    if bank.space and style < 0.15:
        text = text.lower().rstrip(".")
    elif bank.space and style < 0.2:
        text = text.upper()
    elif style < 0.3:
        text = text.rstrip(".。") + ("!!" if bank.space else "！！")
    return _misspell(text, rng) if rng.random() < 0.2 else text


def _misspell(text: str, rng: np.random.Generator) -> str:
    """Swap two neighbouring characters."""
    if len(text) < 6:
        return text
    at = int(rng.integers(1, len(text) - 2))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _pick(phrases: Sequence[str], rng: np.random.Generator) -> str:
    return phrases[int(rng.integers(len(phrases)))]
