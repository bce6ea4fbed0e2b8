"""Batches that do not fit into memory."""

import numpy as np
import pytest
import torch

from inference.text.encoder.torch_runtime import TorchRuntime


class Small(torch.nn.Module):
    """Sums the tokens of each text, and runs out of memory with more than a few texts."""

    def __init__(self, max_texts: int) -> None:
        super().__init__()
        self.one, self.max_texts, self.sizes = torch.nn.Parameter(torch.ones(1)), max_texts, []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if len(input_ids) > self.max_texts:
            raise torch.OutOfMemoryError("no memory left")
        self.sizes.append(len(input_ids))
        return (input_ids * attention_mask).sum(dim=1, keepdim=True) * self.one


def batches():
    for rows in (np.array([3, 0, 4, 1]), np.array([2])):
        ids = np.repeat(rows[:, None], 3, axis=1)
        yield rows, {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@pytest.mark.parametrize(("max_texts", "sizes"), [(4, [4, 1]), (3, [2, 2, 1]), (1, [1, 1, 1, 1, 1])])
def test_a_batch_that_is_too_large_is_split_in_halves(max_texts, sizes):
    module, result = Small(max_texts), np.full((5, 1), np.nan, np.float32)
    TorchRuntime(module, "torch-float32").embed(batches(), result)
    assert result[:, 0].tolist() == [0, 3, 6, 9, 12]
    assert module.sizes == sizes


def test_a_single_text_that_is_too_large_raises():
    with pytest.raises(torch.OutOfMemoryError):
        TorchRuntime(Small(0), "torch-float32").embed(batches(), np.zeros((5, 1), np.float32))
