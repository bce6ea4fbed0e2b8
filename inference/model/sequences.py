"""Inputs of the transformer: the newest events and texts of customers, as arrays.

They come from the table ``sequence_features``, newest first, offline and online alike.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
import pandas as pd

from inference.text.cleaning import clean_text

#: Columns by name, with one element per customer; for one customer a mapping is much faster than a DataFrame.
Columns: TypeAlias = pd.DataFrame | Mapping[str, Sequence]

#: Columns of ``sequence_features``.
EVENT_COLUMNS = ("event_types", "event_categories", "event_days_ago", "event_amounts")
TEXT_COLUMNS = ("text_ids", "texts", "text_subjects", "text_days_ago", "text_ratings")

#: Kinds of events by number; 0 is padding, an unknown kind counts as the last.
EVENT_TYPES = ("order", "cancelled", "returned", "visit", "review", "ticket", "contact", "redemption", "other")
#: Categories are hashed into so many buckets; 0 is none.
CATEGORY_BUCKETS = 64
#: Bounds per customer, those of the table (``macros/sequences.sql``).
MAX_EVENTS, MAX_TEXTS = 32, 4
#: Numbers of an event: log days ago, log days since the event before it, signed log of the amount.
EVENT_NUMBERS = 3
#: Numbers of a text: log days ago, stars from -1 to 1, whether there were stars, whether it is a ticket.
TEXT_NUMBERS = 4


@dataclass(frozen=True)
class Sequences:
    """Events and texts of customers, one row each, newest first and padded at the end."""

    event_types: np.ndarray  # (n_customers, MAX_EVENTS), uint8: numbers of kinds, 0 is padding
    event_categories: np.ndarray  # (n_customers, MAX_EVENTS), uint8: buckets
    event_numbers: np.ndarray  # (n_customers, MAX_EVENTS, EVENT_NUMBERS), float32
    texts: np.ndarray  # (n_customers, MAX_TEXTS), int64: positions in ``words``, -1 is padding
    text_subjects: np.ndarray  # (n_customers, MAX_TEXTS), uint8: buckets of what a text is about, a product or topic
    text_numbers: np.ndarray  # (n_customers, MAX_TEXTS, TEXT_NUMBERS), float32
    words: list[str]  # every different text, cleaned

    def __len__(self) -> int:
        return len(self.event_types)

    @property
    def wrote(self) -> np.ndarray:
        """Whether each customer has a text, shape (n_customers,)."""
        return self.texts[:, 0] >= 0

    def take(self, rows: np.ndarray) -> Self:
        """Keep some rows, by mask or positions."""
        names = ("event_types", "event_categories", "event_numbers", "texts", "text_subjects", "text_numbers")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def without_texts(self) -> Self:
        """The same customers without texts."""
        return replace(self, texts=np.full_like(self.texts, -1))

    def without_events(self) -> Self:
        """The same customers without events."""
        return replace(self, event_types=np.zeros_like(self.event_types))

    def with_shuffled_words(self, seed: int = 0) -> Self:
        """Shuffle the texts between customers; dates and ratings stay. A control for what texts add."""
        texts, written = self.texts.copy(), self.texts >= 0
        texts[written] = np.random.default_rng(seed).permutation(texts[written])
        return replace(self, texts=texts)


def has_sequences(rows: Columns) -> bool:
    """Whether rows carry the columns of ``sequence_features``."""
    return all(column in rows for column in (*EVENT_COLUMNS, *TEXT_COLUMNS))


def read_sequences(rows: Columns) -> Sequences:
    """Turn ``EVENT_COLUMNS`` and ``TEXT_COLUMNS``, lists or null where there is nothing, into arrays, row by row."""
    row, slot, (types, categories, days_ago, amounts) = _flatten(rows, EVENT_COLUMNS, MAX_EVENTS)
    n_rows = len(rows[EVENT_COLUMNS[0]])
    shape = (n_rows, MAX_EVENTS)
    event_types, event_categories = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    event_numbers = np.zeros((*shape, EVENT_NUMBERS), np.float32)
    numbers = {name: i + 1 for i, name in enumerate(EVENT_TYPES)}
    buckets = {category: _bucket(category) for category in set(categories)}
    event_types[row, slot] = [numbers.get(kind, len(EVENT_TYPES)) for kind in types]
    event_categories[row, slot] = [buckets[category] for category in categories]
    days, money = np.asarray(days_ago, dtype=np.float64), np.asarray(amounts, dtype=np.float64)
    before = np.append(days[1:], 0.0)
    last = np.append(row[1:] != row[:-1], True) if len(row) else np.zeros(0, bool)
    gap = np.where(last, 0.0, before - days)
    event_numbers[row, slot, 0] = np.log1p(days)
    event_numbers[row, slot, 1] = np.log1p(np.maximum(gap, 0))
    event_numbers[row, slot, 2] = np.sign(money) * np.log1p(np.abs(money))

    row, slot, (ids, texts, subjects, days_ago, ratings) = _flatten(rows, TEXT_COLUMNS, MAX_TEXTS)
    positions, words = _different(texts)
    text_index = np.full((n_rows, MAX_TEXTS), -1, np.int64)
    text_subjects = np.zeros((n_rows, MAX_TEXTS), np.uint8)
    text_subjects[row, slot] = [_bucket(subject) for subject in subjects]
    text_numbers = np.zeros((n_rows, MAX_TEXTS, TEXT_NUMBERS), np.float32)
    text_index[row, slot] = positions
    stars = np.asarray(ratings, dtype=np.float64)
    text_numbers[row, slot, 0] = np.log1p(np.asarray(days_ago, dtype=np.float64))
    text_numbers[row, slot, 1] = np.where(stars > 0, (stars - 3) / 2, 0)
    text_numbers[row, slot, 2] = stars > 0
    text_numbers[row, slot, 3] = [str(i).startswith("support_tickets:") for i in ids]
    return Sequences(event_types, event_categories, event_numbers, text_index, text_subjects, text_numbers, words)


def _flatten(rows: Columns, columns: tuple[str, ...], most: int) -> tuple[np.ndarray, np.ndarray, list[list]]:
    """Row and position of every list element, and the elements of each column."""
    lists = rows[columns[0]]
    lengths = np.array([0 if v is None or np.ndim(v) == 0 else min(len(v), most) for v in lists], dtype=np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    elements = [[e for v, n in zip(rows[column], lengths, strict=True) if n for e in list(v)[:n]] for column in columns]
    return row, slot, elements


def _different(texts: list[str]) -> tuple[np.ndarray, list[str]]:
    cleaned = {text: clean_text(text) for text in set(texts)}
    numbers: dict[str, int] = {}
    positions = [numbers.setdefault(cleaned[text], len(numbers)) for text in texts]
    return np.array(positions, dtype=np.int64), list(numbers)


def _bucket(category: str) -> int:
    return 1 + zlib.crc32(category.encode()) % (CATEGORY_BUCKETS - 1) if category else 0
