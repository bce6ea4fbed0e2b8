"""The network of the transformer: texts, events and numbers, as a residual on the tabular log-odds.

Texts go through a sentence encoder, events through a small transformer, numbers through a tower. The residual
starts at exactly zero, so an untrained network returns the tabular log-odds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import ModelOutput

from inference.model.sequences import CATEGORY_BUCKETS, EVENT_NUMBERS, EVENT_TYPES, MAX_EVENTS, TEXT_NUMBERS
from inference.model.transformer.settings import EVENT_HEADS

#: Entries of ``ChurnTransformerConfig`` and their defaults.
DEFAULTS: dict[str, Any] = {
    "n_numbers": 1,  # columns of the numbers tower
    "width": 48,  # of the event tower and of every tower's output
    "event_layers": 2,  # 0 for a network without events
    "event_heads": EVENT_HEADS,
    "dropout": 0.2,  # in every tower and the head
    "text_width": 0,  # length of the vector of a text; 0 for a network without texts
    "encoder": None,  # transformers' configuration of a fine-tuned text encoder; None where vectors are given
    "pooling": "mean",  # how token vectors become one, by sentence-transformers' name
    "loss": "cross_entropy",  # or focal
    "positive_weight": 1.0,  # of a customer who churned in the loss
}


class ChurnTransformerConfig(PreTrainedConfig):
    """Shape and loss of a ``ChurnTransformer``; its entries are those of ``DEFAULTS``."""

    model_type = "churn_transformer"

    def __init__(self, **kwargs: Any) -> None:
        for name, default in DEFAULTS.items():
            setattr(self, name, kwargs.pop(name, default))
        super().__init__(**kwargs)


@dataclass
class ChurnOutput(ModelOutput):
    """Output of a ``ChurnTransformer``."""

    loss: torch.Tensor | None = None  # where labels were given
    logit: torch.Tensor | None = None  # log-odds of churn, shape (n_customers,)


class ChurnTransformer(PreTrainedModel):
    """Residual network over texts, events and numbers."""

    config_class = ChurnTransformerConfig
    base_model_prefix = "churn"
    #: An older version predicted spend as well.
    _keys_to_ignore_on_load_unexpected = [r"spend_head\."]  # noqa: RUF012

    def __init__(self, config: ChurnTransformerConfig) -> None:
        super().__init__(config)
        width, dropout = config.width, nn.Dropout(config.dropout)
        self.numbers = nn.Sequential(
            nn.Linear(config.n_numbers, width), nn.GELU(), dropout, nn.Linear(width, width), nn.GELU()
        )
        if config.event_layers:
            self.events = EventTower(config)
        if config.encoder is not None:
            self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder))
            self.pooling = Pooling(self.encoder.config.hidden_size, config.pooling)
        if config.text_width:
            self.texts = TextTower(config)
        self.body = nn.Sequential(nn.LayerNorm(width), dropout, nn.Linear(width, width), nn.GELU(), dropout)
        self.churn_head = nn.Linear(width, 1)
        self.post_init()
        nn.init.zeros_(self.churn_head.weight)
        nn.init.zeros_(self.churn_head.bias)

    def _init_weights(self, module: nn.Module) -> None:
        """Keep PyTorch's own initialisation; the head starts at zero."""

    def encode(self, **tokens: torch.Tensor) -> torch.Tensor:
        """Vector of each text, shape (n_texts, hidden_size)."""
        states = self.encoder(**tokens)[0]
        features = {"token_embeddings": states, "attention_mask": tokens["attention_mask"]}
        return self.pooling(features)["sentence_embedding"]

    def forward(
        self,
        tabular_logit: torch.Tensor,
        numbers: torch.Tensor,
        events: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
        texts: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
        churned: torch.Tensor | None = None,
    ) -> ChurnOutput:
        """Predict a batch of customers.

        Parameters
        ----------
        tabular_logit : Tensor of shape (n,)
            Log-odds of the tabular members.
        numbers : Tensor of shape (n, n_numbers)
            Standardised features with their missing indicators.
        events, texts : tuple of Tensor
            Inputs of ``EventTower`` and of ``TextTower``.
        churned : Tensor of shape (n,), optional
            1 or 0; with it the loss is computed.
        """
        read = self.numbers(numbers)
        if self.config.event_layers and events is not None:
            read = read + self.events(*events)
        if self.config.text_width and texts is not None:
            read = read + self.texts(*texts)
        logit = tabular_logit + self.churn_head(self.body(read))[:, 0].float()
        return ChurnOutput(loss=None if churned is None else self._loss(logit, churned), logit=logit)

    def _loss(self, logit: torch.Tensor, churned: torch.Tensor) -> torch.Tensor:
        entropy = nn.functional.binary_cross_entropy_with_logits(logit, churned, reduction="none")
        if self.config.loss == "focal":
            # Lin et al. 2017, equation 4, with gamma 2
            entropy = entropy * (1 - torch.exp(-entropy)) ** 2
        weight = 1 + (self.config.positive_weight - 1) * churned
        return (weight * entropy).sum() / weight.sum()


class TextVectors(nn.Module):
    """The fine-tuned text encoder of a network as a module of its own."""

    def __init__(self, network: ChurnTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the vector of each text, shape (n_texts, hidden_size)."""
        return self.network.encode(input_ids=input_ids, attention_mask=attention_mask)


class EventTower(nn.Module):
    """A small transformer over a customer's newest events."""

    def __init__(self, config: ChurnTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.kind = nn.Embedding(len(EVENT_TYPES) + 1, width, padding_idx=0)
        self.category = nn.Embedding(CATEGORY_BUCKETS, width)
        self.place = nn.Embedding(MAX_EVENTS, width)
        self.measures = nn.Linear(EVENT_NUMBERS, width)
        self.summary = nn.Parameter(torch.randn(width) / width**0.5)
        layer = nn.TransformerEncoderLayer(
            width, config.event_heads, 2 * width, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.event_layers, enable_nested_tensor=False)

    def forward(self, kinds: torch.Tensor, categories: torch.Tensor, measures: torch.Tensor) -> torch.Tensor:
        """Return one vector per customer, shape (n_customers, width).

        Parameters
        ----------
        kinds, categories : Tensor of shape (n_customers, n_events), int64
            Kinds and buckets; kind 0 is padding.
        measures : Tensor of shape (n_customers, n_events, EVENT_NUMBERS)
            Age, gap, amount.
        """
        places = torch.arange(kinds.shape[1], device=kinds.device)
        events = self.kind(kinds) + self.category(categories) + self.place(places) + self.measures(measures)
        events = torch.cat([self.summary.expand(len(kinds), 1, -1).to(events.dtype), events], dim=1)
        padding = nn.functional.pad(kinds == 0, (1, 0), value=False)
        return self.layers(events, src_key_padding_mask=padding)[:, 0]


class TextTower(nn.Module):
    """Weighted mean of a customer's texts; weights depend on content, age and rating."""

    def __init__(self, config: ChurnTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.words = nn.Linear(config.text_width, width)
        self.subject = nn.Embedding(CATEGORY_BUCKETS, width)
        self.circumstances = nn.Linear(TEXT_NUMBERS, width)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, width))
        self.weigh = nn.Linear(width, 1)
        self.nothing = nn.Parameter(torch.zeros(width))

    def forward(
        self, vectors: torch.Tensor, subjects: torch.Tensor, numbers: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return one vector per customer, shape (n_customers, width); a learned one where there are no texts.

        Parameters
        ----------
        vectors : Tensor of shape (n_customers, n_texts, text_width)
            Vectors of the texts.
        subjects : Tensor of shape (n_customers, n_texts), int64
            Buckets of products and topics.
        numbers : Tensor of shape (n_customers, n_texts, TEXT_NUMBERS)
            Age, rating, source.
        mask : Tensor of shape (n_customers, n_texts), bool
            Where there is a text.
        """
        # cosine similarity, which sentence-transformers trains for, ignores their length
        vectors = nn.functional.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5
        texts = self.mix(self.words(vectors) + self.subject(subjects) + self.circumstances(numbers))
        # an empty text has a weight too, so that all others can get a small one
        texts = torch.cat([self.nothing.expand(len(texts), 1, -1).to(texts.dtype), texts], dim=1)
        weights = self.weigh(texts)[..., 0].masked_fill(~nn.functional.pad(mask, (1, 0), value=True), -1e4)
        return (torch.softmax(weights, dim=1).unsqueeze(-1) * texts).sum(dim=1)
