"""Tokenisation without transformers, whose import takes seconds, if the model's tokenizer is written in Rust."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: ``input_ids`` and ``attention_mask``, each of shape (n_texts, n_tokens), int64.
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TextTokenizer:
    """The token ids of each of some texts, and how they are padded."""

    tokenise: Callable[[Sequence[str]], list[list[int]]]
    pad_id: int
    padding_side: str
    #: Of a tokenizer written in Rust: what ``from_json`` reads.
    json: str | None = None

    @classmethod
    def from_json(cls, json: str) -> Self:
        """Make a tokenizer in Rust, with truncation and padding, from its JSON."""
        rust = Tokenizer.from_str(json)
        padding = rust.padding or {}  # a damaged file has none
        rust.no_padding()  # texts are padded per batch, not per call of `tokenise`

        def tokenise(texts: Sequence[str]) -> list[list[int]]:
            return [encoding.ids for encoding in rust.encode_batch_fast(list(texts))]

        return cls(tokenise, padding["pad_id"], padding["direction"], json)

    def pad(self, ids: Sequence[Sequence[int]]) -> Batch:
        """Pad the texts of a batch; see ``padded``."""
        return padded(ids, self.pad_id, self.padding_side)


def make_tokenizer(tokenizer: "PreTrainedTokenizerBase", max_tokens: int) -> TextTokenizer:
    """Make the fastest tokenizer that gives the same ids, up to ``max_tokens``, as a model's of transformers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # it is not written in Rust

        def tokenise(texts: Sequence[str]) -> list[list[int]]:
            return tokenizer(list(texts), truncation=True, max_length=max_tokens, verbose=False)["input_ids"]

        return TextTokenizer(tokenise, tokenizer.pad_token_id, tokenizer.padding_side)
    copy = Tokenizer.from_str(backend.to_str())
    copy.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    padding = {"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}
    copy.enable_padding(direction=tokenizer.padding_side, **padding)
    return TextTokenizer.from_json(copy.to_str())


def padded(ids: Sequence[Sequence[int]], pad_id: int, side: str) -> Batch:
    """Pad the texts of a batch to the longest, on the side ``left`` or ``right``.

    ``pad`` of transformers does the same more slowly than a GPU encodes.
    """
    longest = max(len(tokens) for tokens in ids)
    filled = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(filled)
    for row, tokens in enumerate(ids):
        place = slice(longest - len(tokens), None) if side == "left" else slice(len(tokens))
        filled[row, place], mask[row, place] = tokens, 1
    return {"input_ids": filled, "attention_mask": mask}
