"""Tokenisation without transformers, whose import takes seconds, if the model's tokenizer is written in Rust."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from tokenizers import Tokenizer

from inference.home import whole_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: ``input_ids`` and ``attention_mask``, each of shape (n_texts, n_tokens), int64.
Batch = Mapping[str, np.ndarray]


class FastTokenizer:
    """A tokenizer in Rust that can be saved as one JSON file.

    Parameters
    ----------
    tokenizer : Tokenizer
        With truncation and padding.

    Raises
    ------
    ValueError
        If it has no padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if tokenizer.padding is None:
            raise ValueError("the tokenizer has no padding; expected one that make_tokenizer made")
        self._pad_id, self._side = tokenizer.padding["pad_id"], tokenizer.padding["direction"]
        self._json, self._tokenizer = tokenizer.to_str(), tokenizer
        tokenizer.no_padding()  # texts are padded per batch, not per call of `tokenise`

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(Tokenizer.from_file(str(file)))

    def save(self, file: Path) -> None:
        """Write a JSON file."""
        with whole_file(file) as partial:
            partial.write_text(self._json)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def pad(self, ids: Sequence[Sequence[int]]) -> Batch:
        """Pad the texts of a batch; see ``padded``."""
        return padded(ids, self._pad_id, self._side)


class PlainTokenizer:
    """A tokenizer of transformers that is not written in Rust.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model.
    max_tokens : int
        Longer texts are truncated.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens, verbose=False)["input_ids"]

    def pad(self, ids: Sequence[Sequence[int]]) -> Batch:
        """Pad the texts of a batch; see ``padded``."""
        return padded(ids, self._tokenizer.pad_token_id, self._tokenizer.padding_side)


TextTokenizer = FastTokenizer | PlainTokenizer


def make_tokenizer(tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> TextTokenizer:
    """Make the fastest tokenizer that gives the same token ids as a tokenizer of transformers.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Tokenizer of the model; is not changed.
    max_tokens : int
        Longer texts are truncated.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return PlainTokenizer(tokenizer, max_tokens)
    copy = Tokenizer.from_str(backend.to_str())
    copy.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    padding = {"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}
    copy.enable_padding(direction=tokenizer.padding_side, **padding)
    return FastTokenizer(copy)


def padded(ids: Sequence[Sequence[int]], pad_id: int, side: str) -> Batch:
    """Pad the texts of a batch to the longest; ``pad`` of transformers does the same more slowly than a GPU encodes.

    Parameters
    ----------
    ids : sequence of sequence of int
        Token ids of each text.
    pad_id : int
        Padding token.
    side : str
        ``left`` or ``right``.
    """
    longest = max(len(tokens) for tokens in ids)
    filled = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(filled)
    for row, tokens in enumerate(ids):
        place = slice(longest - len(tokens), None) if side == "left" else slice(len(tokens))
        filled[row, place], mask[row, place] = tokens, 1
    return {"input_ids": filled, "attention_mask": mask}
