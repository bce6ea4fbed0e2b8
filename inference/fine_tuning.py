"""The training loop of the fused transformer, and the checkpoints that it resumes from."""

import hashlib
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedTokenizerBase, get_cosine_schedule_with_warmup

from inference.classifier import FINE_TUNING, ChurnTransformer
from inference.encoder import token_batches
from inference.errors import ChurnRadarError
from inference.home import home
from inference.progress import track
from inference.sequences import Sequences

#: Looks at a later snapshot, two an epoch, without improvement after which training stops. Words take a
#: while to be heard: on the simulated shop nothing improved for the first three looks, then much.
PATIENCE = 4
#: Most tokens of texts that the encoder reads at once in training, padding included.
MOST_TOKENS = 1024


@dataclass(frozen=True)
class TransformerSettings:
    """How the transformer is built and trained.

    Parameters
    ----------
    width, event_layers : int
        Width of the towers, layers of the event tower.
    dropout : float
        Dropout of towers and head.
    learning_rate, encoder_learning_rate : float
        Peak learning rates of the new parts and of the words' encoder.
    weight_decay : float
        AdamW's.
    warm_up : float
        Share of the steps in which the learning rate rises; then it falls along a cosine.
    batch_rows, accumulation : int
        Rows per batch, and batches per step.
    most_epochs : int
        Most passes over the rows; how many is decided on a later snapshot.
    most_rows, most_rows_with_words : int
        Rows are sampled down to so many; reading words takes the time.
    fine_tuning : str
        What of the encoder learns: ``frozen`` (nothing), ``top`` (its upper layers), ``lora`` or ``full``.
    top_layers : int
        How many upper layers, for ``top``.
    tokens_per_text, tokens_per_customer : int
        Budgets; the newest texts come first.
    token_dropout, text_dropout : float
        Augmentation: share of tokens, and of texts, that are left out at random.
    loss : str
        ``cross_entropy`` or ``focal``.
    positive_weight : float
        Weight of a customer who churned.
    seed : int
        The same rows, settings and seed give the same network on the same machine.
    checkpoint_seconds : float
        At most so much work is lost when training is killed.
    """

    width: int = 48
    event_layers: int = 2
    dropout: float = 0.2
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warm_up: float = 0.1
    batch_rows: int = 128
    accumulation: int = 1
    most_epochs: int = 3
    most_rows: int = 20_000
    most_rows_with_words: int = 10_000
    fine_tuning: str = "top"
    top_layers: int = 3
    tokens_per_text: int = 64
    tokens_per_customer: int = 96
    token_dropout: float = 0.1
    text_dropout: float = 0.1
    loss: str = "cross_entropy"
    positive_weight: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.fine_tuning not in FINE_TUNING:
            raise ChurnRadarError(f"fine_tuning is {self.fine_tuning}; expected one of {', '.join(FINE_TUNING)}")
        if self.loss not in ("cross_entropy", "focal"):
            raise ChurnRadarError(f"loss is {self.loss}; expected cross_entropy or focal")


@dataclass(frozen=True)
class Examples:
    """Rows as the network reads them.

    Parameters
    ----------
    tabular_logit : ndarray of shape (n_rows,), float32
        Log-odds of the tabular members; of training rows, as predicted from other customers.
    numbers : ndarray of shape (n_rows, n_numbers), float32
        Standardised features and missing indicators.
    sequences : Sequences
        Events and texts.
    churned : ndarray of shape (n_rows,), float32, optional
        1 or 0.
    spend : ndarray of shape (n_rows,), float32, optional
        Spend in the horizon over its mean in training.
    """

    tabular_logit: np.ndarray
    numbers: np.ndarray
    sequences: Sequences
    churned: np.ndarray | None = None
    spend: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tabular_logit)

    def take(self, rows: np.ndarray) -> "Examples":
        """Keep some rows, by mask or positions."""
        labels = {name: None if (v := getattr(self, name)) is None else v[rows] for name in ("churned", "spend")}
        return Examples(self.tabular_logit[rows], self.numbers[rows], self.sequences.take(rows), **labels)


class Tokens:
    """Every different text of some sequences, tokenised once.

    Parameters
    ----------
    words : list of str
        Texts.
    tokenizer : PreTrainedTokenizerBase
        The encoder's.
    settings : TransformerSettings
        Token budgets.
    """

    def __init__(self, words: list[str], tokenizer: PreTrainedTokenizerBase, settings: TransformerSettings) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        self.ids: list[list[int]] = []
        if words:
            self.ids = tokenizer(words, truncation=True, max_length=settings.tokens_per_text, verbose=False)[
                "input_ids"
            ]
        self.lengths = np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def within_budget(self, texts: np.ndarray) -> np.ndarray:
        """Texts of each customer that fit the budget, newest first, the others as padding.

        Parameters
        ----------
        texts : ndarray of shape (n_customers, MOST_TEXTS), int64
            Positions of texts, -1 for none.
        """
        if not len(self.lengths):
            return texts
        used = np.cumsum(np.where(texts >= 0, self.lengths[texts], 0), axis=1)
        return np.where(used <= self.settings.tokens_per_customer, texts, -1)

    def batch(self, numbers: np.ndarray, chance: np.random.Generator | None = None) -> dict[str, torch.Tensor]:
        """Pad texts into tensors; with a source of chance, leave some tokens out."""
        ids = [self.ids[i] for i in numbers]
        if chance is not None and self.settings.token_dropout:
            # the first and last token frame the text
            keep = [chance.random(len(t)) >= self.settings.token_dropout for t in ids]
            last = [len(t) - 1 for t in ids]
            ids = [
                [token for j, token in enumerate(t) if k[j] or j in (0, end)]
                for t, k, end in zip(ids, keep, last, strict=True)
            ]
        return dict(self.tokenizer.pad({"input_ids": ids}, return_tensors="pt"))


@dataclass
class History:
    """Curves of a training.

    Parameters
    ----------
    steps : list of dict
        ``step``, ``epoch``, ``loss`` (mean since the last entry) and ``learning_rate``.
    later : list of dict
        ``step``, ``epoch`` and ``log_loss`` on a later snapshot.
    best_epochs : float
        After how many passes the log-loss on the later snapshot was lowest.
    seconds : float
        Time spent, over all resumptions.
    """

    steps: list[dict] = field(default_factory=list)
    later: list[dict] = field(default_factory=list)
    best_epochs: float = math.nan
    seconds: float = 0.0


def prepare_fine_tuning(model: ChurnTransformer, settings: TransformerSettings) -> None:
    """Choose which weights of the words' encoder learn."""
    if model.config.encoder is None:
        return
    encoder = model.encoder
    encoder.requires_grad_(settings.fine_tuning == "full")
    if settings.fine_tuning == "top":
        for layer in _layers(encoder)[-settings.top_layers :]:
            layer.requires_grad_(True)
    elif settings.fine_tuning == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=settings.dropout, target_modules=_attention(encoder))
        inject_adapter_in_model(lora, encoder)


def finish_fine_tuning(model: ChurnTransformer) -> None:
    """Fold LoRA's weights into the encoder's own, so that the saved network is a plain one."""
    if model.config.encoder is None:
        return
    for name, module in list(model.encoder.named_modules()):
        if hasattr(module, "get_base_layer"):
            module.merge()
            parent = model.encoder.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())


def fine_tune(
    model: ChurnTransformer,
    examples: Examples,
    tokens: Tokens,
    settings: TransformerSettings,
    n_epochs: float,
    name: str,
    later: Examples | None = None,
    vectors: np.ndarray | None = None,
) -> History:
    """Train a network, from its checkpoint where one of the same rows and settings is there.

    Parameters
    ----------
    model : ChurnTransformer
        Changed in place; ends with the weights that were best on ``later``, else with the last.
    examples : Examples
        Training rows.
    tokens : Tokens
        Their texts.
    settings : TransformerSettings
        How to train.
    n_epochs : float
        Passes over the rows.
    name : str
        What is trained, for the progress bar, the checkpoint and TensorBoard.
    later : Examples, optional
        Rows of a later snapshot; training stops when they are not predicted better for long.
    vectors : ndarray of shape (n_texts, text_width), optional
        Vectors of the texts by the frozen encoder, where the network has none of its own.

    Returns
    -------
    History
    """
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        prepare_fine_tuning(model, settings)
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in learning if not n.startswith("encoder.")], "lr": settings.learning_rate},
            {"params": [p for n, p in learning if n.startswith("encoder.")], "lr": settings.encoder_learning_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    rows_per_step = settings.batch_rows * settings.accumulation
    n_steps = max(1, round(n_epochs * len(examples) / rows_per_step))
    schedule = get_cosine_schedule_with_warmup(optimizer, round(settings.warm_up * n_steps), n_steps)
    every = max(1, round(len(examples) / rows_per_step / 2))  # look at the later snapshot twice an epoch
    checkpoint = Checkpoint(name, examples, settings, n_epochs, model, later, vectors)
    history, best = History(), None
    with torch.random.fork_rng(), curves(checkpoint.key) as write:
        torch.manual_seed(settings.seed)
        state = checkpoint.read()
        if state:
            model.load_state_dict(state["model"], strict=False)
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["chance"])
            history, best = state["history"], state["best"]
        first = state["step"] if state else 0
        started, recent = time.monotonic() - history.seconds, []
        for step in track(range(first, n_steps), name, completed=first):
            model.train()
            chance = np.random.default_rng([settings.seed, step])
            for batch in _batches_of_step(step, examples, settings):
                inputs = _inputs(model, examples.take(batch), tokens, chance, vectors)
                loss = model(**inputs).loss / settings.accumulation
                loss.backward()
                recent.append(loss.item() * settings.accumulation)
            clip_grad_norm_([p for _, p in learning], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            done, epoch = step + 1, (step + 1) * rows_per_step / len(examples)
            history.seconds = time.monotonic() - started
            if done % max(1, every // 8) == 0 or done == n_steps:
                history.steps.append(
                    {
                        "step": done,
                        "epoch": epoch,
                        "loss": float(np.mean(recent)),
                        "learning_rate": schedule.get_last_lr()[0],
                    }
                )
                write("loss", history.steps[-1]["loss"], done)
                recent = []
            if later is not None and (done % every == 0 or done == n_steps):
                history.later.append(
                    {"step": done, "epoch": epoch, "log_loss": log_loss_at(model, later, tokens, vectors)}
                )
                write("later_log_loss", history.later[-1]["log_loss"], done)
                losses = [point["log_loss"] for point in history.later]
                if losses[-1] == min(losses):
                    best = learned_state(model)
                    history.best_epochs = epoch
                elif len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
                    break
            if checkpoint.due():
                checkpoint.write(model, optimizer, schedule, done, history, best)
    if best is not None:
        model.load_state_dict(best, strict=False)
    finish_fine_tuning(model)
    model.eval()
    return history


def predict(
    model: ChurnTransformer, examples: Examples, text_vectors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of churn and log of relative spend, each of shape (n_rows,), float64.

    Parameters
    ----------
    model : ChurnTransformer
        Trained.
    examples : Examples
        Rows.
    text_vectors : ndarray of shape (n_texts, text_width), float32, or None
        What the encoder says of each text of the sequences; None for a network that reads no words.
    """
    model.eval()
    vectors = None if text_vectors is None else torch.from_numpy(text_vectors)
    logits, spends = [np.zeros(0)], [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(examples), 1024):
            part = examples.take(np.arange(start, min(start + 1024, len(examples))))
            output = model(**_tensors(model, part, vectors))
            logits.append(output.logit.double().cpu().numpy())
            spends.append(output.log_spend.double().cpu().numpy())
    return np.concatenate(logits), np.concatenate(spends)


def encode_texts(model: ChurnTransformer, tokens: Tokens, numbers: np.ndarray, batch_tokens: int = 4096) -> np.ndarray:
    """Vectors of some texts in float32, shape (n_texts, hidden_size), independent of the batch they fall into."""
    model.eval()
    result = np.zeros((len(numbers), model.encoder.config.hidden_size), dtype=np.float32)
    batches = list(token_batches(tokens.lengths[numbers], batch_tokens)) if len(numbers) else []
    with torch.inference_mode():
        for batch in track(batches, f"Reading {len(numbers):,} texts"):
            inputs = {k: v.to(model.device) for k, v in tokens.batch(numbers[batch]).items()}
            result[batch] = model.encode(**inputs).float().cpu().numpy()
    return result


def log_loss_at(model: ChurnTransformer, later: Examples, tokens: Tokens, vectors: np.ndarray | None = None) -> float:
    """Log-loss on rows with labels, in nats; texts are read as the encoder stands, unless vectors are given."""
    if model.config.encoder is not None:
        read = np.unique(later.sequences.texts[later.sequences.texts >= 0])
        vectors = np.zeros((len(tokens.ids), model.encoder.config.hidden_size), np.float32)
        vectors[read] = encode_texts(model, tokens, read)
    logit, _ = predict(model, later, vectors)
    return float(np.mean(np.logaddexp(0, -logit * np.where(later.churned == 1, 1, -1))))


class Checkpoint:
    """Where a training stands, on disk; written beside and renamed, so that it is whole or not there."""

    def __init__(
        self,
        name: str,
        examples: Examples,
        settings: TransformerSettings,
        n_epochs: float,
        model: ChurnTransformer,
        later: Examples | None = None,
        vectors: np.ndarray | None = None,
    ) -> None:
        digest = hashlib.sha256(repr((name, n_epochs, sorted(_as_dict(settings).items()))).encode())
        for rows in [examples] if later is None else [examples, later]:
            for array in (rows.tabular_logit, rows.numbers, rows.churned, rows.spend):
                digest.update(np.ascontiguousarray(array).tobytes())
            for part in ("event_types", "event_categories", "event_numbers", "texts", "text_subjects", "text_numbers"):
                digest.update(np.ascontiguousarray(getattr(rows.sequences, part)).tobytes())
        digest.update("\n".join(examples.sequences.words).encode())
        if vectors is not None:  # another encoder reads the same words otherwise
            digest.update(np.ascontiguousarray(vectors).tobytes())
        for weights in model.state_dict().values():
            digest.update(weights.detach().float().cpu().numpy().tobytes())
        self.key = f"{name.lower().replace(' ', '-')}-{digest.hexdigest()[:12]}"
        self.path = checkpoints() / f"{self.key}.pt"
        self.seconds, self.written = settings.checkpoint_seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self.written >= self.seconds

    def write(self, model, optimizer, schedule, step: int, history: History, best: dict | None) -> None:
        """Keep everything that the rest of the training depends on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": step,
            "model": learned_state(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "chance": torch.get_rng_state(),
            "history": history,
            "best": best,
        }
        torch.save(state, self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").replace(self.path)
        self.written = time.monotonic()

    def read(self) -> dict | None:
        """Return what was written; None, and a line that says so, where it cannot be read."""
        if not self.path.exists():
            return None
        try:
            with torch.serialization.safe_globals([History]):
                state = torch.load(self.path, weights_only=True)
            if not {"step", "model", "optimizer", "schedule", "chance", "history", "best"} <= state.keys():
                raise ValueError("incomplete")
        except Exception as error:  # a broken file may raise anything
            reason = str(error).strip().splitlines()[0][:80] if str(error).strip() else type(error).__name__
            print(f"{self.path}: the checkpoint cannot be read ({reason}); starting this training anew")
            return None
        print(f"{self.key}: resumed after step {state['step']:,}")
        return state


def checkpoints() -> Path:
    """Folder of unfinished trainings."""
    return home() / "checkpoints"


def forget_checkpoints() -> None:
    """Delete the checkpoints, once what was trained is registered."""
    shutil.rmtree(checkpoints(), ignore_errors=True)


def learned_state(model: ChurnTransformer) -> dict[str, torch.Tensor]:
    """Copy the weights that learn."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


class curves:  # noqa: N801
    """Context that writes scalars to TensorBoard, in ``$CHURN_HOME/tensorboard``."""

    def __init__(self, key: str) -> None:
        self.folder = home() / "tensorboard" / key

    def __enter__(self):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder)
        return self.writer.add_scalar

    def __exit__(self, *error: object) -> None:
        self.writer.close()


def reduced_precision(device: torch.device):
    """Bfloat16 autocast where the device multiplies in it, else nothing."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        able = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16) if able else nullcontext()


def _batches_of_step(step: int, examples: Examples, settings: TransformerSettings) -> Iterator[np.ndarray]:
    """Rows of each batch of a step: passes over all rows, each in an order of its own."""
    per_step = settings.batch_rows * settings.accumulation
    wanted = np.arange(step * per_step, (step + 1) * per_step)
    order = {
        epoch: np.random.default_rng([settings.seed, epoch, 1]).permutation(len(examples))
        for epoch in np.unique(wanted // len(examples))
    }
    rows = np.array([order[i // len(examples)][i % len(examples)] for i in wanted])
    yield from np.split(rows, settings.accumulation)


def _inputs(
    model: ChurnTransformer,
    examples: Examples,
    tokens: Tokens,
    chance: np.random.Generator,
    vectors: np.ndarray | None,
) -> dict[str, torch.Tensor]:
    """Tensors of a training batch, its texts read by the encoder as it stands."""
    if not model.config.text_width:
        return _tensors(model, examples, None)
    texts = examples.sequences.texts
    texts = np.where(chance.random(texts.shape) < tokens.settings.text_dropout, -1, texts)
    if vectors is not None:
        examples = replace(examples, sequences=examples.sequences.with_texts(texts))
        return _tensors(model, examples, torch.from_numpy(vectors))
    read, positions = np.unique(texts, return_inverse=True)
    examples = replace(examples, sequences=replace(examples.sequences, texts=positions.reshape(texts.shape)))
    # position 0 is padding wherever a text is missing; a row of zeros stands for it
    missing = int((read == -1).any())
    examples.sequences.texts[...] -= missing
    read = read[missing:]
    if not len(read):
        return _tensors(model, examples, torch.zeros((1, model.config.text_width)))
    # texts of like lengths together: padding would cost more than the texts do
    batches = list(token_batches(tokens.lengths[read], MOST_TOKENS))
    parts = []
    with reduced_precision(model.device):
        for batch in batches:
            padded = tokens.batch(read[batch], chance)
            parts.append(model.encode(**{k: v.to(model.device) for k, v in padded.items()}).float())
    order = torch.from_numpy(np.argsort(np.concatenate(batches)))
    return _tensors(model, examples, torch.cat(parts)[order])


def _tensors(model: ChurnTransformer, examples: Examples, vectors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    sequences = examples.sequences
    tensors = {"tabular_logit": examples.tabular_logit, "numbers": examples.numbers}
    if model.config.event_layers:
        longest = max(1, int((sequences.event_types > 0).sum(axis=1).max(initial=1)))
        tensors |= {
            "event_types": sequences.event_types[:, :longest].astype(np.int64),
            "event_categories": sequences.event_categories[:, :longest].astype(np.int64),
            "event_numbers": sequences.event_numbers[:, :longest],
        }
    if examples.churned is not None:
        tensors |= {"churned": examples.churned, "spend": examples.spend}
    result = {name: torch.from_numpy(array).to(model.device) for name, array in tensors.items()}
    if model.config.text_width:
        texts = torch.from_numpy(sequences.texts).to(vectors.device)
        mask = (texts >= 0).to(model.device)
        if not len(vectors):
            vectors = torch.zeros((1, model.config.text_width), device=vectors.device)
        gathered = vectors[texts.clamp(min=0)].to(model.device)
        result |= {
            "text_vectors": gathered * mask.unsqueeze(-1),
            "text_subjects": torch.from_numpy(sequences.text_subjects.astype(np.int64)).to(model.device),
            "text_numbers": torch.from_numpy(sequences.text_numbers).to(model.device),
            "text_mask": mask,
        }
    return result


def _layers(encoder: torch.nn.Module) -> torch.nn.ModuleList:
    """The stack of layers of an encoder, whatever its architecture calls it: the longest list of modules."""
    lists = [module for module in encoder.modules() if isinstance(module, torch.nn.ModuleList)]
    if not lists:
        raise ChurnRadarError(f"CHURN_ENCODER: {type(encoder).__name__} has no stack of layers; expected a transformer")
    return max(lists, key=len)


def _attention(encoder: torch.nn.Module) -> list[str]:
    """Names of the query and value projections, which LoRA adapts (Hu et al. 2021)."""
    names = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)}
    found = [n for n in names if n in ("query", "value", "q_lin", "v_lin", "q_proj", "v_proj", "q", "v", "Wqkv")]
    return found or "all-linear"


def _as_dict(settings: TransformerSettings) -> dict:
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "checkpoint_seconds"}
