"""The sentence encoder that reads texts: any sentence-transformers model, loaded at the first text."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inference.errors import ChurnRadarError
from inference.home import GRAPHS, home, whole_file
from inference.text.cleaning import clean_text
from inference.text.encoder import runtimes
from inference.text.encoder.loading import load_model, sample_texts
from inference.text.encoder.revision_cache import EncoderFacts, cached_facts, files_fingerprint, save_facts
from inference.text.encoder.runtimes import Runtime
from inference.text.encoder.settings import EncoderSettings, choose_device
from inference.text.encoder.tokenizer import TextTokenizer, make_tokenizer

if TYPE_CHECKING:  # importing them takes seconds, which reading a saved graph does without
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Token budget of a batch in calibration.
CALIBRATION_TOKENS = 256


@dataclass(frozen=True)
class _Loaded:
    """What a loaded encoder computes with; no runtime if sentence-transformers itself encodes the texts."""

    facts: EncoderFacts
    runtime: Runtime | None
    tokenizer: TextTokenizer | None


class Encoder:
    """Lazy sentence encoder: its revision comes from a cache; weights load at the first ``encode``."""

    #: Texts encoded between two saves of the vector cache; None for the default of the device.
    texts_per_save: int | None = None

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self.settings = settings or EncoderSettings.from_environment()

    @staticmethod
    def shared() -> "Encoder":
        """Return the process-wide encoder of the environment's settings."""
        return _shared(EncoderSettings.from_environment())

    @property
    def revision(self) -> str:
        """Hash of weights, token limit and runtime: only embeddings of one revision can be compared."""
        return self._facts.revision

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._facts.dimension

    @property
    def runtime(self) -> str:
        """One of ``RUNTIMES``: the fastest faithful one when these files were first loaded in this ``CHURN_HOME``."""
        return self._facts.runtime

    @cached_property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return choose_device(self.settings.device)

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Tokenizer of the model."""
        return self._model.tokenizer

    @property
    def transformer(self) -> "PreTrainedModel | None":
        """The transformer that returns token vectors; None for models without one, which cannot be fine-tuned."""
        return getattr(self._model[0], "auto_model", None)

    @property
    def pooling(self) -> str:
        """Name of the model's pooling mode in sentence-transformers.

        Raises
        ------
        ChurnRadarError
            If the model pools token vectors in another way.
        """
        from sentence_transformers.sentence_transformer.modules import Pooling

        if not isinstance(self._model[1], Pooling):
            raise ChurnRadarError(f"encoder {self.settings.name} has no pooling layer; expected one to fine-tune it")
        return str(self._model[1].get_config_dict()["pooling_mode"])

    def load(self) -> None:
        """Load the encoder now instead of at the first ``encode``.

        Raises
        ------
        ChurnRadarError
            If the model cannot be loaded, CUDA is requested but missing, or the files changed since ``revision`` was
            read.
        """
        expected = self.revision
        revision = self._loaded.facts.revision
        if revision != expected:
            raise ChurnRadarError(
                f"encoder {self.settings.name} is revision {revision}, but was {expected} when its files were last "
                "read; expected files that do not change while they are in use: run it again"
            )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, each distinct text once; shape (n_texts, dimension), float32.

        The batch that a text falls into changes its embedding by less than 1e-5 in float32, and by less than 0.02
        in other precisions. A text without printable characters gets the embedding of the empty text.
        """
        self.load()
        cleaned = [clean_text(text) for text in texts]
        position = {text: i for i, text in enumerate(dict.fromkeys(cleaned))}
        if not position:
            return np.zeros((0, self.dimension), dtype=np.float32)
        runtime, tokenizer = self._loaded.runtime, self._loaded.tokenizer
        if runtime is None or tokenizer is None:
            vectors = self._model.encode(list(position), show_progress_bar=False).astype(np.float32)
        else:
            vectors = runtimes.embed_texts(runtime, list(position), tokenizer, self.dimension)
        return vectors[[position[text] for text in cleaned]]

    @cached_property
    def _model(self) -> "SentenceTransformer":
        return load_model(self.settings.name, self.device)

    @cached_property
    def _facts(self) -> EncoderFacts:
        return cached_facts(files_fingerprint(self.settings)) or self._loaded.facts

    @cached_property
    def _loaded(self) -> _Loaded:
        fingerprint = files_fingerprint(self.settings)
        cached = cached_facts(fingerprint)
        saved = self._read_saved(cached) if cached else None
        if saved is not None:
            return saved
        runtime, tokenizer, name = None, None, runtimes.RUNTIMES[0]
        dimension = int(self._model.get_embedding_dimension() or 0)
        if self.transformer is not None:  # else static embeddings and the like, which tokenise in their own way
            tokenizer = make_tokenizer(self.tokenizer, self._model.max_seq_length or 512)
            runtime = self._choose_runtime(cached.runtime if cached else "auto", tokenizer, dimension)
            name = runtime.name
        facts = EncoderFacts(name, self._revision(name), dimension)
        if fingerprint is not None and facts != cached:
            save_facts(fingerprint, facts)
        _save(facts.revision, runtime, tokenizer)
        return _Loaded(facts, runtime, tokenizer)

    def _read_saved(self, facts: EncoderFacts) -> _Loaded | None:
        """Read the graph and the tokenizer that ``_save`` wrote, if they exist; this needs no torch."""
        graph, tokenizer = _saved_files(facts.revision)
        if not (graph.exists() and tokenizer.exists()):
            return None
        from inference.text.encoder.openvino_runtime import OpenVINORuntime, read_graph

        try:
            rust = TextTokenizer.from_json(tokenizer.read_text())
            return _Loaded(facts, OpenVINORuntime(read_graph(graph), facts.runtime), rust)
        except Exception:  # a damaged file, for which each library has its own errors
            graph.unlink()
            return None

    def _choose_runtime(self, cached: str, tokenizer: TextTokenizer, dimension: int) -> Runtime:
        """Make the runtime of the settings or of the cache, else the best one."""
        name = cached if self.settings.runtime == "auto" else self.settings.runtime
        if name not in ("auto", *runtimes.RUNTIMES):
            expected = ", ".join(runtimes.RUNTIMES)
            raise ChurnRadarError(f"encoder runtime is {name}; expected auto or one of {expected}")
        names = [name] if name != "auto" else runtimes.available(self.device, self.settings.fidelity)
        if len(names) == 1:
            return self._make_runtime(names[0], tokenizer)
        _, probes = sample_texts()
        probes *= runtimes.PROBE_REPEATS[self.device]
        return runtimes.choose(
            names,
            lambda name: self._make_runtime(name, tokenizer),
            lambda runtime: runtimes.embed_texts(runtime, probes, tokenizer, dimension),
            self.settings.fidelity,
        )

    def _make_runtime(self, name: str, tokenizer: TextTokenizer) -> Runtime:
        from inference.text.encoder.torch_runtime import SentenceVectors, TorchRuntime

        module = SentenceVectors(self._model)
        if name.startswith("torch"):
            return TorchRuntime(module, name)
        from inference.text.encoder.openvino_runtime import OpenVINORuntime, quantised, read_graph, save_graph, traced

        if name != "openvino-int8":
            return OpenVINORuntime(traced(module), name)
        file, _ = _saved_files(self._revision(name))
        if file.exists():
            return OpenVINORuntime(read_graph(file), name)
        ids = tokenizer.tokenise(sample_texts()[0])
        lengths = np.array([len(tokens) for tokens in ids])
        batches = runtimes.token_batches(lengths, CALIBRATION_TOKENS)
        graph = quantised(module, [tokenizer.pad([ids[i] for i in batch]) for batch in batches])
        save_graph(graph, file)
        return OpenVINORuntime(graph, name)

    def _revision(self, runtime: str) -> str:
        recipe = f"{runtime} {runtimes.SMOOTHING}" if runtime == "openvino-int8" else runtime
        return hashlib.sha256(f"{self._weights_hash} {recipe}".encode()).hexdigest()[:16]

    @cached_property
    def _weights_hash(self) -> str:
        """Hash of weights and token limit, 16 hexadecimal digits."""
        digest = hashlib.sha256(str(self._model.max_seq_length).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _saved_files(revision: str) -> tuple[Path, Path]:
    """Paths of OpenVINO's graph and of the tokenizer of a revision."""
    graph = home() / GRAPHS / f"{revision}.xml"
    return graph, graph.with_suffix(".json")


def _save(revision: str, runtime: Runtime | None, tokenizer: TextTokenizer | None) -> None:
    """Save OpenVINO's graph and a Rust tokenizer, so that the next process need not trace the model again."""
    from inference.text.encoder.openvino_runtime import OpenVINORuntime, save_graph

    if not isinstance(runtime, OpenVINORuntime) or tokenizer is None or tokenizer.json is None:
        return
    graph, tokenizer_file = _saved_files(revision)
    with suppress(OSError, RuntimeError):  # a process without write access traces the model each time
        if not graph.exists():
            save_graph(runtime.graph, graph)
        with whole_file(tokenizer_file) as partial:
            partial.write_text(tokenizer.json)


@lru_cache(maxsize=1)
def _shared(settings: EncoderSettings) -> Encoder:
    return Encoder(settings)
