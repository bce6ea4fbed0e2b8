"""Inputs of the network: tokens, batches and tensors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from inference.model.sequences import Sequences
from inference.model.transformer.network import ChurnTransformer
from inference.model.transformer.settings import TransformerSettings
from inference.text.encoder.runtimes import token_batches
from inference.text.encoder.tokenizer import Batch, padded

#: Maximal number of tokens in a batch of texts in training, by device, padding included.
MAX_TOKENS = {"cpu": 1024, "cuda": 16_384}


@dataclass(frozen=True)
class Examples:
    """Rows as inputs of the network; arrays are float32."""

    tabular_logit: np.ndarray  # (n_rows,): log-odds of the tabular members; of training rows, cross-fitted
    numbers: np.ndarray  # (n_rows, n_numbers): standardised features and missing indicators
    sequences: Sequences
    churned: np.ndarray | None = None  # (n_rows,): 1 or 0

    def __len__(self) -> int:
        return len(self.tabular_logit)

    def take(self, rows: np.ndarray) -> "Examples":
        """Keep some rows, by mask or positions."""
        churned = None if self.churned is None else self.churned[rows]
        return Examples(self.tabular_logit[rows], self.numbers[rows], self.sequences.take(rows), churned)


class Tokens:
    """Token ids of texts, each tokenised once; ``tokenizer`` is that of the encoder, None where there are no texts."""

    def __init__(
        self, words: list[str], tokenizer: PreTrainedTokenizerBase | None, settings: TransformerSettings
    ) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        self.ids: list[list[int]] = []
        if words and tokenizer is not None:
            tokenised = tokenizer(words, truncation=True, max_length=settings.tokens_per_text, verbose=False)
            self.ids = tokenised["input_ids"]
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def within_budget(self, texts: np.ndarray) -> np.ndarray:
        """Texts of each customer that fit the budget, newest first, the others as padding; as in ``Sequences``."""
        if not len(self.lengths):
            return texts
        used = np.cumsum(np.where(texts >= 0, self.lengths[texts], 0), axis=1)
        return np.where(used <= self.settings.tokens_per_customer, texts, -1)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Batch:
        """Pad texts; with a random generator, token dropout is applied."""
        assert self.tokenizer is not None  # without one there are no texts
        ids = [self.ids[i] for i in numbers]
        if rng is not None and self.settings.token_dropout:
            for i, tokens in enumerate(ids):
                keep = rng.random(len(tokens)) >= self.settings.token_dropout
                keep[:1] = keep[-1:] = True  # the first and last token mark the ends of the text
                ids[i] = list(compress(tokens, keep))
        return padded(ids, self.tokenizer.pad_token_id, self.tokenizer.padding_side)


def batches_of_step(step: int, examples: Examples, settings: TransformerSettings) -> Iterator[np.ndarray]:
    """Rows of each batch of a step: passes over all rows, each in an order of its own."""
    per_step = settings.batch_rows * settings.accumulation
    wanted = np.arange(step * per_step, (step + 1) * per_step)
    order = {
        epoch: np.random.default_rng([settings.seed, epoch, 1]).permutation(len(examples))
        for epoch in np.unique(wanted // len(examples))
    }
    rows = np.array([order[i // len(examples)][i % len(examples)] for i in wanted])
    yield from np.split(rows, settings.accumulation)


def training_tensors(
    model: ChurnTransformer,
    examples: Examples,
    tokens: Tokens,
    rng: np.random.Generator,
    vectors: np.ndarray | None,
) -> dict[str, Any]:
    """Arguments of ``forward`` for a training batch; the network embeds texts itself, unless vectors are given."""
    if not model.config.text_width:
        return to_tensors(model, examples, None)
    texts = examples.sequences.texts
    texts = np.where(rng.random(texts.shape) < tokens.settings.text_dropout, -1, texts)
    if vectors is not None:
        examples = replace(examples, sequences=replace(examples.sequences, texts=texts))
        return to_tensors(model, examples, torch.from_numpy(vectors))
    read, positions = np.unique(texts, return_inverse=True)
    examples = replace(examples, sequences=replace(examples.sequences, texts=positions.reshape(texts.shape)))
    # np.unique puts padding (-1) first, where a text is missing
    missing = int((read == -1).any())
    examples.sequences.texts[...] -= missing
    read = read[missing:]
    if not len(read):
        return to_tensors(model, examples, torch.zeros((1, model.config.text_width)))
    # texts of similar length share a batch, or most tokens would be padding
    batches = list(token_batches(tokens.lengths[read], MAX_TOKENS[model.device.type]))
    parts = []
    with reduced_precision(model.device):
        for batch in batches:
            inputs = {k: torch.from_numpy(v) for k, v in tokens.batch(read[batch], rng).items()}
            parts.append(model.encode(**{k: v.to(model.device) for k, v in inputs.items()}).float())
    order = torch.from_numpy(np.argsort(np.concatenate(batches)))
    return to_tensors(model, examples, torch.cat(parts)[order])


def to_tensors(model: ChurnTransformer, examples: Examples, vectors: torch.Tensor | None) -> dict[str, Any]:
    """Arguments of ``forward`` for a batch; ``vectors`` as in ``predict``."""
    sequences, device = examples.sequences, model.device

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    inputs: dict[str, Any] = {
        "tabular_logit": tensor(examples.tabular_logit),
        "numbers": tensor(examples.numbers),
    }
    if model.config.event_layers:
        longest = max(1, int((sequences.event_types > 0).sum(axis=1).max(initial=1)))
        inputs["events"] = (
            tensor(sequences.event_types[:, :longest].astype(np.int64)),
            tensor(sequences.event_categories[:, :longest].astype(np.int64)),
            tensor(sequences.event_numbers[:, :longest]),
        )
    if examples.churned is not None:
        inputs["churned"] = tensor(examples.churned)
    if vectors is not None:
        texts = torch.from_numpy(sequences.texts).to(vectors.device)
        mask = (texts >= 0).to(device)
        if not len(vectors):
            vectors = torch.zeros((1, model.config.text_width), device=vectors.device)
        gathered = vectors[texts.clamp(min=0)].to(device)
        inputs["texts"] = (
            gathered * mask.unsqueeze(-1),
            tensor(sequences.text_subjects.astype(np.int64)),
            tensor(sequences.text_numbers),
            mask,
        )
    return inputs


def reduced_precision(device: torch.device) -> AbstractContextManager:
    """Bfloat16 autocast where the device computes in it, else a context that does nothing."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        able = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16) if able else nullcontext()
