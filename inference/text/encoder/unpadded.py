"""Sentence vectors of texts that lie end to end: no computation is spent on padding.

Each layer reads one row with the tokens of the whole batch; attention alone has to know where a text ends, which the
kernel for variable lengths does on CUDA (Dao 2023, FlashAttention-2).
"""

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

#: Name of the attention below among those of transformers.
ATTENTION = "churn_radar_unpadded"


class UnpaddedVectors(torch.nn.Module):
    """A transformer and what follows it as a module of padded tensors, which it takes the padding out of.

    Parameters
    ----------
    transformer : PreTrainedModel
        Passes keyword arguments on to its attention. Other runtimes may share it: attention without ends of texts is
        torch's usual one.
    *after : Module
        Make a text's vector of those of its tokens, as modules of sentence-transformers do; the first is a pooling.
    """

    def __init__(self, transformer: torch.nn.Module, *after: torch.nn.Module) -> None:
        super().__init__()
        self.transformer, self.after = transformer, torch.nn.ModuleList(after)
        transformer.set_attn_implementation(ATTENTION)
        # RoBERTa and its kin count positions from the one after that of padding
        before = getattr(getattr(transformer, "embeddings", None), "padding_idx", None)
        self._first_position = 0 if before is None else before + 1

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vector of each text, shape (n_texts, dimension).

        Parameters
        ----------
        input_ids, attention_mask : Tensor of shape (n_texts, n_tokens), int64
            On whichever side they are padded.
        """
        kept = attention_mask.bool()
        positions = attention_mask.cumsum(dim=1) - 1
        ends = functional.pad(attention_mask.sum(dim=1).cumsum(dim=0), (1, 0)).to(torch.int32)
        tokens = self.transformer(
            input_ids=input_ids[kept].unsqueeze(0),
            position_ids=positions[kept].unsqueeze(0) + self._first_position,
            ends=ends,
            longest=input_ids.shape[1],
        )[0]
        padded = tokens.new_zeros((*input_ids.shape, tokens.shape[-1]))
        padded[kept] = tokens[0]
        features = {"token_embeddings": padded, "attention_mask": attention_mask}
        for part in self.after:
            features = part(features)
        return features["sentence_embedding"]


def unpadded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    ends: torch.Tensor | None = None,
    longest: int | None = None,
    **others,
) -> tuple[torch.Tensor, None]:
    """Attend to the tokens of the same text; transformers' usual attention where ends of texts are not given.

    Parameters
    ----------
    module : Module
        Attention layer.
    query, key, value : Tensor of shape (1, n_heads, n_tokens, width of a head)
        Of the texts of a batch, end to end; bfloat16 or float16 on CUDA.
    attention_mask : None
        There is nothing to mask.
    scaling : float, optional
        Factor of the scores; one over the root of the width where not given.
    ends : Tensor of shape (n_texts + 1,), int32
        Where each text begins, and the last one ends.
    longest : int
        Most tokens of a text.

    Returns
    -------
    Tensor of shape (1, n_tokens, n_heads, width of a head)
    """
    if ends is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    if query.is_cuda:
        flat = (states[0].transpose(0, 1) for states in (query, key, value))
        return varlen_attn(*flat, ends, ends, longest, longest, scale=scaling).unsqueeze(0), None
    lengths = ends.diff().tolist()
    each = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    read = [functional.scaled_dot_product_attention(*text, scale=scaling) for text in each]
    return torch.cat(read, dim=2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, unpadded_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
