"""A small shop, a tiny encoder and networks that learn from them in a moment."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Sequences, read_sequences
from inference.model.training_data import TrainingData
from inference.model.transformer.member import TransformerMember
from inference.model.transformer.settings import TransformerSettings
from inference.text.encoder.encoder import Encoder

WORDS = ["the", "a", "parcel", "late", "fits", "never", "again", "broken", "lovely", "perfectly"]
FILLERS = ["the", "a", "parcel", "late", "fits", "never", "again", "perfectly"]

SMALL = TransformerSettings(
    width=16,
    event_layers=1,
    learning_rate=5e-3,
    encoder_learning_rate=1e-3,
    batch_rows=32,
    max_epochs=1,
    top_layers=1,
    checkpoint_seconds=1e9,
)
#: Long and fast enough to learn what a word means.
LONG = replace(SMALL, max_epochs=5, learning_rate=1e-2, encoder_learning_rate=3e-3, dropout=0.0, token_dropout=0.0)
MODES = ["top", "lora", "full"]


@dataclass
class Shop:
    """Customers of whom one column, two events and at most one text are known."""

    X: pd.DataFrame
    sequences: Sequences
    tabular: np.ndarray
    y: np.ndarray

    def take(self, rows: slice) -> "Shop":
        positions = np.arange(len(self.y))[rows]
        X = self.X.iloc[rows].reset_index(drop=True)
        return Shop(X, self.sequences.take(positions), self.tabular[rows], self.y[rows])

    @property
    def asked(self) -> tuple[pd.DataFrame, Sequences, np.ndarray]:
        return self.X, self.sequences, self.tabular

    @property
    def data(self) -> TrainingData:
        return TrainingData(self.X, self.X, self.y, self.sequences, tabular_logit=self.tabular)


def make_shop(n: int = 360, seed: int = 0) -> Shop:
    """Log-odds of churn are the tabular ones, plus 3 for who wrote "broken" and minus 3 for who wrote "lovely"."""
    rng = np.random.default_rng(seed)
    words = rng.choice(["broken", "lovely", ""], n, p=[0.4, 0.4, 0.2])
    texts = [" ".join([*rng.choice(FILLERS, 2), word, *rng.choice(FILLERS, 2)]) for word in words]
    tabular = rng.normal(0, 0.5, n)
    y = (rng.random(n) < expit(tabular + 3.0 * (words == "broken") - 3.0 * (words == "lovely"))).astype(int)
    days = np.sort(rng.uniform(1, 100, (n, 2)), axis=1)
    wrote = words != ""
    rows = {
        "event_types": [["order", "visit"]] * n,
        "event_categories": [["toys", ""]] * n,
        "event_days_ago": list(days),
        "event_amounts": [[20.0, 0.0]] * n,
        "text_ids": [[f"reviews:{i}"] if w else None for i, w in enumerate(wrote)],
        "texts": [[text] if w else None for text, w in zip(texts, wrote, strict=True)],
        "text_subjects": [["lamp"] if w else None for w in wrote],
        "text_days_ago": [[2.0] if w else None for w in wrote],
        "text_ratings": [[0.0] if w else None for w in wrote],
    }
    X = pd.DataFrame({"x": tabular, "sometimes_null": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))})
    return Shop(X, read_sequences(pd.DataFrame(rows)), tabular, y)


def make_sequences(*texts: list[str]) -> Sequences:
    """Customers without events who wrote these texts, newest first."""
    columns = {name: [None] * len(texts) for name in EVENT_COLUMNS}
    whole = (lambda i, text: f"reviews:{i}", lambda i, text: text, lambda i, text: "", lambda i, text: i + 1.0)
    for name, value in zip(TEXT_COLUMNS, (*whole, lambda i, text: 0.0), strict=True):
        columns[name] = [[value(i, text) for i, text in enumerate(own)] for own in texts]
    return read_sequences(pd.DataFrame(columns))


def make_tiny_encoder(folder: Path, architecture: str) -> str:
    """Save an untrained encoder of two layers that knows ``WORDS``; return its path."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    common = {"vocab_size": len(vocabulary), "max_position_embeddings": 64}
    if architecture == "Bert":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    else:
        shape = {"dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    model = getattr(transformers, f"{architecture}Model")(
        getattr(transformers, f"{architecture}Config")(**common, **shape)
    )
    model.save_pretrained(folder / "plain")
    getattr(transformers, f"{architecture}TokenizerFast")(vocab=vocabulary).save_pretrained(folder / "plain")
    modules = [Transformer(str(folder / "plain"), max_seq_length=64), Pooling(model.config.hidden_size)]
    SentenceTransformer(modules=modules).save(str(folder / "tiny"))
    return str(folder / "tiny")


def fit(shop: Shop, settings: TransformerSettings, encoder: Encoder | None = None, **how: object) -> TransformerMember:
    """Train a member; the encoder is fine-tuned where one is given."""
    arguments = {"encoder": encoder, "fine_tuned": encoder is not None} | how
    return TransformerMember(settings).fit(shop.data, **arguments)


def log_loss(logit: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, -logit * np.where(y == 1, 1, -1))))


def weights(member: TransformerMember) -> dict[str, np.ndarray]:
    return {name: w.numpy().copy() for name, w in member.model_.state_dict().items()}


def assert_same_weights(one: dict[str, np.ndarray], other: dict[str, np.ndarray], atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=atol, err_msg=name)


def differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], other[name])}
