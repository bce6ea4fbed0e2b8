"""Texts end to end say what padded ones say."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from inference.text.encoder.torch_runtime import SentenceVectors
from inference.text.encoder.unpadded import UnpaddedVectors

#: Three texts of 2, 5 and 1 tokens; 1 is RoBERTa's padding, 0 that of the others.
LENGTHS = (2, 5, 1)


class OnlyTransformer(torch.nn.Module):
    """What sentence-transformers puts before pooling, without a tokenizer."""

    def __init__(self, auto_model: torch.nn.Module) -> None:
        super().__init__()
        self.auto_model = auto_model

    def forward(self, features: dict) -> dict:
        told = {name: features[name] for name in ("input_ids", "attention_mask")}
        return features | {"token_embeddings": self.auto_model(**told)[0]}


def bert() -> BertModel:
    return BertModel(
        BertConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    )


def roberta() -> RobertaModel:
    return RobertaModel(
        RobertaConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    )


def distilbert() -> DistilBertModel:
    return DistilBertModel(DistilBertConfig(vocab_size=30, dim=32, n_layers=2, n_heads=4, hidden_dim=48))


def batch(padding: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = torch.full((3, 5), padding), torch.zeros((3, 5), dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        place = slice(5 - length, 5) if left else slice(length)
        ids[row, place], mask[row, place] = torch.arange(3, 3 + length) + row, 1
    return ids, mask


@pytest.mark.parametrize("make", [bert, roberta, distilbert])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_a_text_gets_the_vector_that_padding_would_give_it(make, pooling):
    torch.manual_seed(0)
    model = SentenceTransformer(
        device="cpu", modules=[OnlyTransformer(make()), Pooling(32, pooling), Normalize()]
    ).eval()
    ids, mask = batch(model[0].auto_model.config.pad_token_id)
    with torch.inference_mode():
        padded = SentenceVectors(model)(ids, mask)
        unpadded = UnpaddedVectors(model[0].auto_model, *list(model)[1:])
        torch.testing.assert_close(unpadded(ids, mask), padded, atol=1e-5, rtol=0)
        # the other runtime shares the model, whose attention is another one now
        torch.testing.assert_close(SentenceVectors(model)(ids, mask), padded, atol=1e-5, rtol=0)
        for row, length in enumerate(LENGTHS):
            alone = unpadded(ids[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(alone, padded[row : row + 1], atol=1e-5, rtol=0)


def test_texts_may_be_padded_on_the_left():
    torch.manual_seed(0)
    model = SentenceTransformer(device="cpu", modules=[OnlyTransformer(bert()), Pooling(32, "mean")]).eval()
    with torch.inference_mode():
        unpadded = UnpaddedVectors(model[0].auto_model, *list(model)[1:])
        torch.testing.assert_close(unpadded(*batch(0, left=True)), unpadded(*batch(0)), atol=1e-5, rtol=0)
