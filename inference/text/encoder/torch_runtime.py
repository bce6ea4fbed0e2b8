"""Embeddings by torch on a CPU or a GPU."""

from collections.abc import Iterator

import numpy as np
import torch

from inference.text.encoder.runtimes import BATCH_TOKENS
from inference.text.encoder.tokenizer import Batch


class SentenceVectors(torch.nn.Module):
    """A sentence-transformers model, with its pooling, as a module that takes and returns tensors."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vector of each text, shape (n_texts, dimension)."""
        return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]


class TorchRuntime:
    """Computes embeddings with torch, on the device of the module; bfloat16 casts its weights on use."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self.name, self._module = name, module.eval()
        self.device = next(module.parameters()).device.type
        self.batch_tokens = BATCH_TOKENS[self.device]

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """See ``Runtime``; a GPU starts on the next batch before the vectors of the previous one are copied."""
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=self.name.endswith("bfloat16"))
        on_gpu, previous = self.device == "cuda", None
        with torch.inference_mode(), autocast:
            for rows, batch in batches:
                tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
                if on_gpu:  # pinned memory is copied while the GPU computes
                    tensors = {n: t.pin_memory().to(self.device, non_blocking=True) for n, t in tensors.items()}
                vectors = self._forward(tensors).float().to("cpu", non_blocking=on_gpu)
                copied = torch.cuda.Event() if on_gpu else None
                if copied is not None:
                    copied.record()
                if previous is not None:
                    _store(result, *previous)
                previous = rows, vectors, copied
            if previous is not None:
                _store(result, *previous)

    def _forward(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Vectors of a batch; if GPU memory runs out, of one half after the other."""
        try:
            return self._module(**tensors)
        except torch.OutOfMemoryError:
            if len(tensors["input_ids"]) == 1:
                raise
        halves = zip(*(tensor.tensor_split(2) for tensor in tensors.values()), strict=True)
        return torch.cat([self._forward(dict(zip(tensors, half, strict=True))) for half in halves])


def _store(result: np.ndarray, rows: np.ndarray, vectors: torch.Tensor, copied: torch.cuda.Event | None) -> None:
    """Write the vectors of a batch into their rows, once they are copied."""
    if copied is not None:
        copied.synchronize()
    result[rows] = vectors.numpy()
