"""Torch on a CPU or a GPU: texts padded to the longest of their batch."""

from collections.abc import Iterator

import numpy as np
import torch

from inference.text.encoder.runtimes import BATCH_TOKENS, Batch


class SentenceVectors(torch.nn.Module):
    """A sentence-transformers model as a module of tensors.

    Parameters
    ----------
    model : SentenceTransformer
        Its pooling and whatever follows it are part of the answer.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vector of each text, shape (n_texts, dimension)."""
        return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]


class TorchRuntime:
    """Torch on a CPU or a GPU.

    Parameters
    ----------
    module : Module
        Its weights are left as they are; those of bfloat16 are cast as they are used.
    name : str
        One of ``RUNTIMES`` of torch.
    """

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self.name, self._module = name, module.eval()
        self.device = next(module.parameters()).device.type
        self.batch_tokens = BATCH_TOKENS[self.device]

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """See ``Runtime``; on a GPU the next batch is under way when the vectors of one are taken."""
        reduced = torch.autocast(self.device, torch.bfloat16, enabled=self.name.endswith("bfloat16"))
        on_gpu, before = self.device == "cuda", None
        with torch.inference_mode(), reduced:
            for rows, batch in batches:
                tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
                if on_gpu:  # memory that is locked is copied while the GPU computes
                    tensors = {n: t.pin_memory().to(self.device, non_blocking=True) for n, t in tensors.items()}
                vectors = self._read(tensors).float().to("cpu", non_blocking=on_gpu)
                there = torch.cuda.Event() if on_gpu else None
                if there is not None:
                    there.record()
                if before is not None:
                    _take(result, *before)
                before = rows, vectors, there
            if before is not None:
                _take(result, *before)

    def _read(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Vectors of a batch; of its halves one after the other where a small GPU cannot hold a large encoder's."""
        try:
            return self._module(**tensors)
        except torch.OutOfMemoryError:
            if len(tensors["input_ids"]) == 1:
                raise
        halves = zip(*(tensor.tensor_split(2) for tensor in tensors.values()), strict=True)
        return torch.cat([self._read(dict(zip(tensors, half, strict=True))) for half in halves])


def _take(result: np.ndarray, rows: np.ndarray, vectors: torch.Tensor, there: torch.cuda.Event | None) -> None:
    """Write the vectors of a batch into their rows, once they are there."""
    if there is not None:
        there.synchronize()
    result[rows] = vectors.numpy()
