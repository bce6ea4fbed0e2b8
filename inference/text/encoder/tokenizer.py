"""A tokenizer in Rust, without the libraries around it, whose import takes seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Tokenizer

from inference.text.encoder.runtimes import Batch


class FastTokenizer:
    """Tokenises, truncates and pads as the tokenizer of an encoder does.

    Parameters
    ----------
    tokenizer : Tokenizer
        With its truncation and padding.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._kept, self._tokenizer = tokenizer.to_str(), tokenizer
        self._padding = tokenizer.padding
        tokenizer.no_padding()  # by batch, not by what is tokenised at once

    @classmethod
    def of(cls, tokenizer, most_tokens: int) -> Self | None:
        """Take it out of a tokenizer of transformers; None where that is not written in Rust.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase
            Is not changed.
        most_tokens : int
            Where texts are cut.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        own = Tokenizer.from_str(backend.to_str())
        own.enable_truncation(most_tokens, direction=tokenizer.truncation_side)
        padding = {"pad_id": tokenizer.pad_token_id, "pad_token": tokenizer.pad_token}
        own.enable_padding(direction=tokenizer.padding_side, **padding)
        return cls(own)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(Tokenizer.from_file(str(file)))

    def save(self, file: Path) -> None:
        """Write a JSON file, whole or not at all."""
        partial = file.with_suffix(".partial")
        partial.write_text(self._kept)
        partial.replace(file)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def pad(self, ids: Sequence[Sequence[int]]) -> Batch:
        """Pad the texts of a batch; see ``padded``."""
        return padded(ids, self._padding["pad_id"], self._padding["direction"])


def padded(ids: Sequence[Sequence[int]], pad_id: int, side: str) -> Batch:
    """Token ids of the texts of a batch, as long as the longest, and which of them are no padding.

    What ``pad`` of a tokenizer of transformers answers, which takes longer than a GPU needs to read the batch.

    Parameters
    ----------
    ids : sequence of sequence of int
        Token ids of each text.
    pad_id : int
        The token that fills.
    side : str
        ``left`` or ``right``: where it does.
    """
    longest = max(len(tokens) for tokens in ids)
    filled = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(filled)
    for row, tokens in enumerate(ids):
        place = slice(longest - len(tokens), None) if side == "left" else slice(len(tokens))
        filled[row, place], mask[row, place] = tokens, 1
    return {"input_ids": filled, "attention_mask": mask}
