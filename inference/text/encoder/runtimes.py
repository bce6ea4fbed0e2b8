"""Runtimes that compute embeddings from tokens, and the choice of the fastest faithful one.

A runtime is made from a module ``forward(input_ids, attention_mask)`` that returns one vector per text. On a CPU,
OpenVINO multiplies bfloat16 four to five times as fast as torch does float32, and 8-bit integers faster still.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from inference.text.encoder.tokenizer import Batch, TextTokenizer

logger = logging.getLogger(__name__)

#: Runtimes by name; the first is the reference for fidelity and speed.
RUNTIMES = (
    "torch-float32",
    "torch-bfloat16",
    "openvino-float32",
    "openvino-bfloat16",
    "openvino-int8",
)

#: 8-bit integers are only tried if no more fidelity than this is required; calibrating them takes ten seconds.
INT8_FIDELITY = 0.998

#: Token budget of a batch by device, including padding; a single longer text is a batch of its own. Larger batches
#: need more memory: the first fits a core's caches, the second keeps a GPU busy.
BATCH_TOKENS = {"cpu": 2048, "cuda": 131_072}

#: Texts tokenised at a time, while the previous ones are encoded, by device.
TOKENISED_TEXTS = {"cpu": 1024, "cuda": 4096}

#: Times that the sample texts are repeated to measure a runtime, by device: a few texts do not keep a GPU busy.
PROBE_REPEATS = {"cpu": 1, "cuda": 32}

#: SmoothQuant's alpha (Xiao et al. 2023), by which the range of activations moves into the weights before both are
#: quantised. Mean cosine of reviews with MiniLM: 0.9979, against 0.9972 with NNCF's default and 0.9896 with 0.5.
SMOOTHING = 0.8

#: Smallest speed-up that is not measurement noise.
MIN_SPEED_UP = 1.15


class Runtime(Protocol):
    """Computes the vectors of batches of tokens."""

    name: str
    device: str
    batch_tokens: int

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """Write the vectors of batches into ``result``, shape (n_texts, dimension), float32.

        Each batch comes with the rows of ``result`` that it fills.
        """


def available(device: str, fidelity: float) -> list[str]:
    """Names of the runtimes to compare on a device, ``RUNTIMES[0]`` first."""
    if device == "cuda":
        import torch

        reduced = ["torch-bfloat16"] if torch.cuda.is_bf16_supported() else []
    elif find_spec("openvino") is None:
        reduced = ["torch-bfloat16"]
    else:
        reduced = ["openvino-float32", "openvino-bfloat16"]
        if fidelity <= INT8_FIDELITY and find_spec("nncf") is not None:
            reduced.append("openvino-int8")
    return [RUNTIMES[0], *(reduced if fidelity < 1 else [])]


def choose(
    names: Sequence[str], make: Callable[[str], Runtime], probe: Callable[[Runtime], np.ndarray], fidelity: float
) -> Runtime:
    """Choose the fastest runtime that is faithful enough.

    Parameters
    ----------
    names : sequence of str
        Runtimes to compare; the first is the reference, and the choice if none is better.
    make : callable
        Makes a runtime by name; a runtime for which it fails is skipped.
    probe : callable
        Embeds sample texts with a runtime, shape (n_texts, dimension).
    fidelity : float
        Smallest mean cosine to the embeddings of the reference.
    """
    best = make(names[0])
    reference, best_seconds = _timed(probe, best)
    for name in names[1:]:
        try:
            runtime = make(name)
            vectors, seconds = _timed(probe, runtime)
        except Exception as error:  # OpenVINO does not support every architecture
            logger.info("encoder: skipped runtime %s (%s)", name, str(error).strip().splitlines()[0][:200])
            continue
        norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(vectors, axis=1)
        cosine = float(np.mean(np.sum(reference * vectors, axis=1) / np.maximum(norms, 1e-12)))
        if cosine >= fidelity and MIN_SPEED_UP * seconds < best_seconds:
            best, best_seconds = runtime, seconds
    return best


def _timed(probe: Callable[[Runtime], np.ndarray], runtime: Runtime) -> tuple[np.ndarray, float]:
    vectors, seconds = probe(runtime), []  # also warms up
    for _ in range(3):
        started = time.perf_counter()
        probe(runtime)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)


def embed_texts(runtime: Runtime, texts: Sequence[str], tokenizer: TextTokenizer, dimension: int) -> np.ndarray:
    """Embed texts in batches of similar token counts, while a thread tokenises and pads the next ones.

    Returns
    -------
    ndarray of shape (n_texts, dimension), float32
    """
    result = np.empty((len(texts), dimension), dtype=np.float32)
    if not texts:
        return result
    # the order by characters is nearly that by tokens: each part needs little padding, and the longest come first
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    size = TOKENISED_TEXTS[runtime.device]
    parts = [order[start : start + size] for start in range(0, len(order), size)]

    def prepare(part: list[int]) -> list[tuple[np.ndarray, Batch]]:
        ids = tokenizer.tokenise([texts[i] for i in part])
        batches = token_batches(np.array([len(tokens) for tokens in ids]), runtime.batch_tokens)
        return [(np.array(part)[batch], tokenizer.pad([ids[i] for i in batch])) for batch in batches]

    def batches() -> Iterator[tuple[np.ndarray, Batch]]:
        with ThreadPoolExecutor(1) as thread:
            pending = thread.submit(prepare, parts[0])
            for part in parts[1:]:
                ready = pending.result()
                pending = thread.submit(prepare, part)
                yield from ready
            yield from pending.result()

    runtime.embed(batches(), result)
    return result


def token_batches(lengths: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Group texts by their token counts into batches of at most ``max_tokens`` including padding.

    Yields
    ------
    ndarray of int
        Positions of the texts of one batch, which is over the budget if a single text is; the longest texts come
        first, so that memory runs out at once or never.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
