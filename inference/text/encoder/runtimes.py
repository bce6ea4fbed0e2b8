"""What turns tokens into vectors: torch, or OpenVINO on a CPU, in a precision that has to prove itself.

A runtime is made of a module ``forward(input_ids, attention_mask)`` that answers with one vector per text. On a CPU
OpenVINO multiplies bfloat16 four to five times as fast as torch does float32, and 8-bit integers faster still.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from inference.errors import ChurnRadarError

#: Runtimes by name; the first is what the others are measured against.
RUNTIMES = (
    "torch-float32",
    "torch-bfloat16",
    "openvino-float32",
    "openvino-bfloat16",
    "openvino-int8",
)

#: Where less fidelity than this is asked for, 8-bit integers are tried as well; calibrating them takes ten seconds.
FIDELITY_OF_INT8 = 0.998

#: Most tokens of a batch by device, padding included; a single text may be longer. Memory grows with it: a core's
#: caches hold the first, a GPU's processors are all busy with the second.
BATCH_TOKENS = {"cpu": 2048, "cuda": 131_072}

#: Texts that are tokenised while those before them are read, by device.
TEXTS_AT_ONCE = {"cpu": 1024, "cuda": 4096}

#: How much of the range of activations is moved into weights before both are made integers (Xiao et al. 2023, alpha):
#: mean cosine of reviews by MiniLM 0.9979, where NNCF's own choice gave 0.9972, and 0.5 gave 0.9896.
SMOOTHING = 0.8

#: A runtime that is not faster by this factor is not worth another revision: it may only have been lucky.
FASTER = 1.15

#: What a runtime reads: ``input_ids`` and ``attention_mask``, each of shape (n_texts, n_tokens), int64.
Batch = Mapping[str, np.ndarray]


class Runtime(Protocol):
    """Reads batches of tokens."""

    name: str
    device: str
    batch_tokens: int

    def embed(self, batches: Iterator[tuple[np.ndarray, Batch]], result: np.ndarray) -> None:
        """Write the vectors of batches into their rows of an array of shape (n_texts, dimension), float32.

        Each batch comes with the rows that it belongs to.
        """


def available(device: str, fidelity: float) -> list[str]:
    """Names of the runtimes to try on a device, ``RUNTIMES[0]`` first."""
    if device == "cuda":
        import torch

        reduced = torch.cuda.is_bf16_supported() and fidelity < 1
        return ["torch-float32", *(["torch-bfloat16"] if reduced else [])]
    names = ["torch-float32"]
    if fidelity < 1 and find_spec("openvino") is not None:
        names += ["openvino-float32", "openvino-bfloat16"]
        if fidelity <= FIDELITY_OF_INT8 and find_spec("nncf") is not None:
            names.append("openvino-int8")
    elif fidelity < 1:
        names.append("torch-bfloat16")
    return names


def choose(
    names: Sequence[str], make: Callable[[str], Runtime], probe: Callable[[Runtime], np.ndarray], fidelity: float
) -> tuple[Runtime, float]:
    """Return the fastest runtime that is faithful, and how faithful it is.

    Parameters
    ----------
    names : sequence of str
        What to try; the first is what the others are measured against, and taken where none is better.
    make : callable
        Makes a runtime; one that cannot be made is left out.
    probe : callable
        Embeds some texts by a runtime, shape (n_texts, dimension).
    fidelity : float
        Least mean cosine to the embeddings of the first.

    Returns
    -------
    Runtime
        The fastest.
    float
        Mean cosine of its embeddings to those of the first.
    """
    best = make(names[0])
    exact, least_seconds = _timed(probe, best)
    cosine = 1.0
    for name in names[1:]:
        try:
            runtime = make(name)
            vectors, seconds = _timed(probe, runtime)
        except Exception as error:  # OpenVINO does not know every architecture
            print(f"encoder: {name} is left out ({str(error).strip().splitlines()[0][:200]})")
            continue
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(vectors, axis=1)
        likeness = float(np.mean(np.sum(exact * vectors, axis=1) / np.maximum(norms, 1e-12)))
        if likeness >= fidelity and FASTER * seconds < least_seconds:
            best, cosine, least_seconds = runtime, likeness, seconds
    return best, cosine


def _timed(probe: Callable[[Runtime], np.ndarray], runtime: Runtime) -> tuple[np.ndarray, float]:
    vectors, seconds = probe(runtime), []  # the first time prepares
    for _ in range(3):
        started = time.perf_counter()
        probe(runtime)
        seconds.append(time.perf_counter() - started)
    return vectors, min(seconds)


def embed_texts(
    runtime: Runtime,
    texts: Sequence[str],
    tokenise: Callable[[list[str]], list[list[int]]],
    pad: Callable[[list[list[int]]], Batch],
    dimension: int,
) -> np.ndarray:
    """Embed texts in batches of like token counts, the next ones tokenised and padded meanwhile.

    Parameters
    ----------
    runtime : Runtime
        Reads the batches.
    texts : sequence of str
        Texts.
    tokenise, pad : callable
        Token ids of texts; a batch of token ids.
    dimension : int
        Length of a vector.

    Returns
    -------
    ndarray of shape (n_texts, dimension), float32
    """
    result = np.empty((len(texts), dimension), dtype=np.float32)
    if not texts:
        return result
    # by characters first, which is nearly the order by tokens: parts pad little, and the longest come first
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    at_once = TEXTS_AT_ONCE[runtime.device]
    parts = [order[start : start + at_once] for start in range(0, len(order), at_once)]

    def prepare(part: list[int]) -> list[tuple[np.ndarray, Batch]]:
        ids = tokenise([texts[i] for i in part])
        batches = token_batches(np.array([len(tokens) for tokens in ids]), runtime.batch_tokens)
        return [(np.array(part)[batch], pad([ids[i] for i in batch])) for batch in batches]

    def batches() -> Iterator[tuple[np.ndarray, Batch]]:
        with ThreadPoolExecutor(1) as beside:
            ahead = beside.submit(prepare, parts[0])
            for following in [*parts[1:], None]:
                ready = ahead.result()
                ahead = beside.submit(prepare, following) if following else None
                yield from ready

    runtime.embed(batches(), result)
    return result


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


def recipe(name: str) -> str:
    """All that decides what a runtime makes of a module, as text."""
    return f"{name} {SMOOTHING}" if name == "openvino-int8" else name


def check_name(name: str) -> None:
    """Refuse a runtime that is not among ``RUNTIMES`` or ``auto``."""
    if name != "auto" and name not in RUNTIMES:
        raise ChurnRadarError(f"encoder runtime is {name}; expected auto or one of {', '.join(RUNTIMES)}")
