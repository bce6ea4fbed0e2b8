"""The transformer as a member of the average: its network adds to the log-odds of the tabular members."""

import hashlib
import json
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from inference.model.preprocessing import Standardiser
from inference.model.sequences import Sequences
from inference.model.skops_files import read_skops, read_standardiser
from inference.model.training_data import TrainingData
from inference.model.transformer.batches import Examples, Tokens
from inference.model.transformer.checkpoints import History
from inference.model.transformer.network import ChurnTransformer, ChurnTransformerConfig, TextVectors
from inference.model.transformer.settings import TransformerSettings
from inference.model.transformer.training_loop import encode_texts, fine_tune, predict
from inference.text.cleaning import hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.openvino_runtime import OpenVINORuntime, traced
from inference.text.encoder.revision_cache import cached_facts, files_fingerprint
from inference.text.encoder.runtimes import Runtime
from inference.text.encoder.settings import EncoderSettings, choose_device
from inference.text.encoder.torch_runtime import TorchRuntime
from inference.text.encoder.vector_cache import cached_vectors

#: Names of the contributions: of texts, events and numbers.
PARTS = ("transformer_words", "transformer_events", "transformer_numbers")
#: File of the standardiser.
STANDARDISER = "standardiser.npz"


class TransformerMember:
    """Fine-tuned transformer over texts, events and numbers, as a residual on the tabular log-odds."""

    name, parts = "transformer", PARTS
    standardiser_: Standardiser
    model_: ChurnTransformer
    tokenizer_: PreTrainedTokenizerBase | None
    encoder_: Encoder | None
    history_: History

    def __init__(self, settings: TransformerSettings | None = None) -> None:
        self.settings = settings or TransformerSettings()
        self._tokenised: tuple[list, Tokens] | None = None

    def fit(
        self,
        data: TrainingData,
        later: TrainingData | None = None,
        n_epochs: float | None = None,
        encoder: Encoder | None = None,
        fine_tuned: bool = False,
        start: Self | None = None,
        title: str = "Training the transformer",
    ) -> Self:
        """Learn what texts, order and timing add to the tabular log-odds of rows with sequences.

        Parameters
        ----------
        data : TrainingData
            Rows to learn from.
        later : TrainingData, optional
            Rows of a later snapshot, on which to stop early; must share the texts of ``data``.
        n_epochs : float, optional
            Passes over the rows; the settings' maximum where not given.
        encoder : Encoder, optional
            Encodes texts; without it they are left out.
        fine_tuned : bool
            Whether the encoder is fine-tuned, in the settings' mode, or stays frozen.
        start : TransformerMember, optional
            A trained member whose weights to start from.
        title : str
            Caption of the progress bar.
        """
        X, sequences, _ = data.transformer_inputs
        if later is not None and later.transformer_inputs[1].words is not sequences.words:
            raise ValueError("later rows must share their texts with the training rows")
        settings = self.settings
        fine_tuned = fine_tuned and settings.fine_tuning != "frozen"
        max_rows = settings.max_rows_with_words if fine_tuned else settings.max_rows
        rows = np.sort(np.random.default_rng(settings.seed).permutation(len(data))[:max_rows])
        self.standardiser_ = Standardiser().fit(X.to_numpy()) if start is None else start.standardiser_
        self._start(X, encoder, fine_tuned, start)
        epochs = settings.max_epochs
        if fine_tuned and start is not None and start.reads_words:
            epochs = settings.max_epochs_fine_tuning
            settings = replace(settings, learning_rate=settings.learning_rate_fine_tuning)
        vectors = self.text_vectors(sequences) if self.reads_words and not fine_tuned else None
        of_later = None if vectors is None or later is None else self.text_vectors(later.transformer_inputs[1])
        if vectors is not None and of_later is not None:
            # both share a list of texts, each has the vectors of its own; a text of both has the same vector twice
            vectors = np.where(np.any(of_later != 0, axis=1, keepdims=True), of_later, vectors)
        self.history_ = fine_tune(
            self.model_,
            self._training_examples(data.take(rows)),
            self._tokens(sequences),
            settings,
            epochs if n_epochs is None else n_epochs,
            title,
            None if later is None else self._training_examples(later),
            vectors,
        )
        return self

    def logit(self, X: pd.DataFrame, sequences: Sequences, tabular_logit: np.ndarray, keep: bool = True) -> np.ndarray:
        """Log-odds of churn, shape (n_rows,); ``keep`` caches text vectors on disk."""
        examples = self._examples(X, sequences, tabular_logit)
        return predict(self.model_, examples, self.text_vectors(examples.sequences, keep))

    def contributions(self, X: pd.DataFrame, sequences: Sequences, tabular_logit: np.ndarray) -> np.ndarray:
        """Contributions of ``PARTS`` to the residual on the tabular log-odds, shape (n_rows, 3).

        Those of texts and events are the difference of the log-odds with and without them; numbers are the rest.
        """
        logit = self.logit(X, sequences, tabular_logit)
        words, events = np.zeros(len(X)), np.zeros(len(X))
        if self.reads_words:
            words = logit - self.logit(X, sequences.without_texts(), tabular_logit)
        if self.model_.config.event_layers:
            events = logit - self.logit(X, sequences.without_events(), tabular_logit)
        return np.column_stack([words, events, logit - tabular_logit - words - events])

    @property
    def reads_words(self) -> bool:
        """Whether the network reads texts."""
        return bool(self.model_.config.text_width)

    @property
    def fine_tuned(self) -> bool:
        """Whether the network has an encoder of its own."""
        return self.model_.config.encoder is not None

    @cached_property
    def revision(self) -> str:
        """Hash of encoder, token budget and runtime; text vectors of two revisions are never mixed."""
        digest = hashlib.sha256(f"{self.settings.tokens_per_text} {_runtime_name()}".encode())
        for name, weights in sorted(self.model_.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(weights.detach().float().cpu().numpy().tobytes())
        return f"transformer-{digest.hexdigest()[:16]}"

    @cached_property
    def runtime(self) -> Runtime:
        """Runtime of the fine-tuned encoder."""
        name, vectors = _runtime_name(), TextVectors(self.model_)
        return OpenVINORuntime(traced(vectors), name) if name.startswith("openvino") else TorchRuntime(vectors, name)

    def save(self, folder: Path) -> None:
        """Write ``transformer/``: the network by ``save_pretrained``, its tokenizer and its standardiser."""
        target = folder / self.name
        self.model_.save_pretrained(target)
        if self.tokenizer_ is not None:
            self.tokenizer_.save_pretrained(target)
        np.savez(target / STANDARDISER, allow_pickle=False, **self.standardiser_.state())
        (target / "member.json").write_text(json.dumps({"settings": asdict(self.settings)}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        source = folder / cls.name
        state = json.loads((source / "member.json").read_text())
        member = cls(TransformerSettings.from_saved(state["settings"]))
        logging.disable_progress_bar()  # of transformers, which shows in log files as well
        member.model_ = ChurnTransformer.from_pretrained(source, use_safetensors=True).eval().to(device())
        if (source / STANDARDISER).exists():
            with np.load(source / STANDARDISER) as arrays:
                member.standardiser_ = Standardiser.from_state(arrays)
        else:  # saved by an older version
            member.standardiser_ = read_standardiser(read_skops(source / "standardiser.skops"))
        if member.fine_tuned:
            member.tokenizer_ = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        member.encoder_ = None
        return member

    def text_vectors(self, sequences: Sequences, keep: bool = True) -> np.ndarray | None:
        """Vectors of these customers' texts, shape (n_texts, text_width), float32; None for a network without texts.

        One per text of ``sequences.words``, zero for those of other customers; cached on disk unless ``keep`` is false.
        """
        if not self.reads_words:
            return None
        vectors = np.zeros((len(sequences.words), self.model_.config.text_width), np.float32)
        read = np.unique(sequences.texts[sequences.texts >= 0])
        if len(read):
            hashes = [hash_text(sequences.words[i]) for i in read]
            if not self.fine_tuned:
                encoder = self.encoder_ = self.encoder_ or Encoder.shared()
                wanted = {text_hash: sequences.words[i] for text_hash, i in zip(hashes, read, strict=True)}
                kept, _ = cached_vectors(encoder.revision, wanted, encoder.encode)
            elif keep:
                tokens, wanted = self._tokens(sequences), dict(zip(hashes, read.tolist(), strict=True))
                kept, _ = cached_vectors(
                    self.revision,
                    wanted,
                    lambda numbers: encode_texts(self.runtime, tokens, np.array(numbers), vectors.shape[1]),
                )
            else:
                embedded = encode_texts(self.runtime, self._tokens(sequences), read, vectors.shape[1])
                kept = dict(zip(hashes, embedded, strict=True))
            vectors[read] = [kept[text_hash] for text_hash in hashes]
        return vectors

    def _start(self, X: pd.DataFrame, encoder: Encoder | None, fine_tuned: bool, start: Self | None) -> None:
        """Make the network, with the encoder's weights and those of a trained member."""
        settings = self.settings
        transformer = encoder.transformer if fine_tuned and encoder is not None else None
        config = ChurnTransformerConfig(
            n_numbers=self.standardiser_.transform(X.iloc[:1].to_numpy()).shape[1],
            width=settings.width,
            event_layers=settings.event_layers,
            dropout=settings.dropout,
            text_width=0 if encoder is None else encoder.dimension,
            encoder=None if transformer is None else json.loads(transformer.config.to_json_string(use_diff=False)),
            pooling=encoder.pooling if fine_tuned and encoder is not None else "mean",
            loss=settings.loss,
            positive_weight=settings.positive_weight,
        )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.model_ = ChurnTransformer(config)
        self.tokenizer_ = None if encoder is None else encoder.tokenizer
        self.encoder_ = encoder
        if transformer is not None:
            self.model_.encoder.load_state_dict(transformer.state_dict())
        if start is not None:
            learned = start.model_.state_dict()
            if self.reads_words and not start.reads_words:
                # without the head: a network that starts to read texts starts at the tabular log-odds
                learned = {k: v for k, v in learned.items() if not k.startswith("churn_head.")}
            self.model_.load_state_dict(learned, strict=False)
        self.model_.to(device())

    def _tokens(self, sequences: Sequences) -> Tokens:
        words = sequences.words if self.fine_tuned else []
        if self._tokenised is None or self._tokenised[0] is not words:
            self._tokenised = (words, Tokens(words, self.tokenizer_, self.settings))
        return self._tokenised[1]

    def _examples(self, X: pd.DataFrame, sequences: Sequences, tabular_logit: np.ndarray) -> Examples:
        if self.fine_tuned:
            sequences = replace(sequences, texts=self._tokens(sequences).within_budget(sequences.texts))
        numbers = self.standardiser_.transform(X.to_numpy()).astype(np.float32)
        return Examples(tabular_logit.astype(np.float32), numbers, sequences)

    def _training_examples(self, data: TrainingData) -> Examples:
        return replace(self._examples(*data.transformer_inputs), churned=data.y.astype(np.float32))


def device() -> str:
    """Device of networks: ``CHURN_DEVICE``, by default CUDA where there is one."""
    return choose_device(EncoderSettings.from_environment().device)


def _runtime_name() -> str:
    """Runtime that was chosen for the encoder of this ``CHURN_HOME``, which suits its fine-tuned copies as well."""
    facts = cached_facts(files_fingerprint(EncoderSettings.from_environment()))
    name = facts.runtime if facts else "torch-float32"
    return "openvino-bfloat16" if name == "openvino-int8" else name  # its scales were calibrated for other weights
