"""Torch on a CPU or a GPU: texts padded to the longest of their batch."""

from collections.abc import Iterator

import numpy as np
import torch

from inference.runtimes import Batch


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
        self._device = next(module.parameters()).device

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """See ``Runtime``."""
        reduced = torch.autocast(self._device.type, torch.bfloat16, enabled=self.name.endswith("bfloat16"))
        with torch.inference_mode(), reduced:
            for rows, batch in batches:
                tensors = {name: torch.from_numpy(values).to(self._device) for name, values in batch.items()}
                result[rows] = self._module(**tensors).float().cpu().numpy()
