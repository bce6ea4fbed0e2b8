"""A saved sentence encoder that is small and untrained, and texts that two encoders read."""

from pathlib import Path

import torch

LATE = "The parcel came three weeks late and nobody answered."
LATE_TOO = "Delivery took forever, no reply from support."
LOVELY = "Lovely colour, fits perfectly."


def make_tiny_encoder(folder: Path, dimension: int = 24, seed: int = 0) -> str:
    """Save an untrained encoder of another architecture and dimension; return its path."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    torch.manual_seed(seed)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "late",
        "parcel",
        "lovely",
        "broken",
        "fits",
        "perfectly",
        "never",
        "again",
        "the",
        "a",
    ]
    (folder / "bert").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    DistilBertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    config = DistilBertConfig(vocab_size=len(words), dim=dimension, n_layers=1, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=32)
    SentenceTransformer(modules=[transformer, Pooling(dimension)]).save(str(folder / "tiny"))
    return str(folder / "tiny")
