"""Training loop of the transformer."""

import time
from dataclasses import asdict

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import get_cosine_schedule_with_warmup

from inference.errors import ChurnRadarError
from inference.model.level import level_shift
from inference.model.transformer.batches import Examples, Tokens, batches_of_step, to_tensors, training_tensors
from inference.model.transformer.checkpoints import Checkpoint, History
from inference.model.transformer.network import ChurnTransformer, TextVectors
from inference.model.transformer.settings import TransformerSettings
from inference.progress import track
from inference.text.encoder.runtimes import Runtime, token_batches
from inference.text.encoder.torch_runtime import TorchRuntime

#: Training stops after this many evaluations (two an epoch) without a lower log-loss. On the simulated shop, a network
#: that reads texts did not improve in the first three evaluations, and much after them.
PATIENCE = 4


def fine_tune(
    model: ChurnTransformer,
    examples: Examples,
    tokens: Tokens,
    settings: TransformerSettings,
    n_epochs: float,
    title: str,
    later: Examples | None = None,
    vectors: np.ndarray | None = None,
) -> History:
    """Train a network; resume from the checkpoint of the same training where there is one.

    Parameters
    ----------
    model : ChurnTransformer
        Changed in place; ends with the weights that were best on ``later``, else with the last.
    examples, tokens
        Training rows and their texts.
    settings : TransformerSettings
        How to train.
    n_epochs : float
        Passes over the rows.
    title : str
        Caption of the progress bar.
    later : Examples, optional
        Rows of a later snapshot; training stops when their log-loss has not decreased for ``PATIENCE`` evaluations.
    vectors : ndarray of shape (n_texts, text_width), optional
        Vectors of the texts by the frozen encoder, where the network has none of its own.
    """
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        prepare_fine_tuning(model, settings)
    training = _Training(model, examples, tokens, settings, n_epochs, later, vectors)
    checkpoint = Checkpoint(examples, settings, n_epochs, model, later, vectors)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        first = training.resume(checkpoint.read())
        for step in track(range(first, training.n_steps), title, completed=first):
            training.run(step)
            if training.evaluate(step + 1):
                break
            if checkpoint.due():
                checkpoint.write(training.state(step + 1))
    if training.best is not None:
        model.load_state_dict(training.best, strict=False)
    if model.config.encoder is not None and settings.fine_tuning == "lora":
        model.encoder = model.encoder.merge_and_unload()  # so that the saved network is an ordinary one
    model.eval()
    return training.history


class _Training:
    """One training: optimizer, learning-rate schedule and loss curves, step by step; see ``fine_tune``."""

    def __init__(
        self,
        model: ChurnTransformer,
        examples: Examples,
        tokens: Tokens,
        settings: TransformerSettings,
        n_epochs: float,
        later: Examples | None,
        vectors: np.ndarray | None,
    ) -> None:
        self.model, self.examples, self.tokens, self.settings = model, examples, tokens, settings
        self.later, self.vectors = later, vectors
        learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.weights = [p for _, p in learning]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for n, p in learning if not n.startswith("encoder.")], "lr": settings.learning_rate},
                {"params": [p for n, p in learning if n.startswith("encoder.")], "lr": settings.encoder_learning_rate},
            ],
            weight_decay=settings.weight_decay,
        )
        self.rows_per_step = settings.batch_rows * settings.accumulation
        self.n_steps = max(1, round(n_epochs * len(examples) / self.rows_per_step))
        self.schedule = get_cosine_schedule_with_warmup(
            self.optimizer, round(settings.warm_up * self.n_steps), self.n_steps
        )
        # the later snapshot is evaluated twice an epoch
        self.evaluate_every = max(1, round(len(examples) / self.rows_per_step / 2))
        self.history = History()
        self.best: dict | None = None  # weights with the lowest log-loss on the later snapshot
        self._recent: list[float] = []  # losses since the last entry of the history

    def state(self, step: int) -> dict:
        """Everything that the training depends on from a step on, the random generators of dropout among it."""
        return {
            "step": step,
            "model": self._learned(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generators": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            "history": asdict(self.history),
            "best": self.best,
        }

    def resume(self, state: dict | None) -> int:
        """Continue from what ``state`` returned, where it was saved; return the first step that is left to do."""
        if state is not None:
            self.model.load_state_dict(state["model"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["generators"][0])
            for number, of_gpu in enumerate(state["generators"][1 : torch.cuda.device_count() + 1]):
                torch.cuda.set_rng_state(of_gpu, number)
            self.history, self.best = History(**state["history"]), state["best"]
        self._started = time.monotonic() - self.history.seconds
        return state["step"] if state is not None else 0

    def run(self, step: int) -> None:
        """Update the weights once and extend the loss curve."""
        self.model.train()
        rng = np.random.default_rng([self.settings.seed, step])
        for batch in batches_of_step(step, self.examples, self.settings):
            inputs = training_tensors(self.model, self.examples.take(batch), self.tokens, rng, self.vectors)
            loss = self.model(**inputs).loss / self.settings.accumulation
            loss.backward()
            self._recent.append(loss.item() * self.settings.accumulation)
        clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        done = step + 1
        self.history.seconds = time.monotonic() - self._started
        if done % max(1, self.evaluate_every // 8) == 0 or done == self.n_steps:
            loss, rate = float(np.mean(self._recent)), self.schedule.get_last_lr()[0]
            self.history.steps.append({"step": done, "epoch": self._epoch(done), "loss": loss, "learning_rate": rate})
            self._recent = []

    def evaluate(self, done: int) -> bool:
        """Compute the log-loss of the later snapshot where that is due; return whether to stop."""
        if self.later is None or (done % self.evaluate_every != 0 and done != self.n_steps):
            return False
        loss = log_loss_at(self.model, self.later, self.tokens, self.vectors)
        self.history.later.append({"step": done, "epoch": self._epoch(done), "log_loss": loss})
        losses = [point["log_loss"] for point in self.history.later]
        if losses[-1] == min(losses):
            self.best = self._learned()
            self.history.best_epochs = self._epoch(done)
            return False
        return len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE

    def _learned(self) -> dict[str, torch.Tensor]:
        """Copy of the weights that are trained."""
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    def _epoch(self, done: int) -> float:
        return done * self.rows_per_step / len(self.examples)


def predict(model: ChurnTransformer, examples: Examples, text_vectors: np.ndarray | None) -> np.ndarray:
    """Log-odds of churn, shape (n_rows,), float64.

    Parameters
    ----------
    model : ChurnTransformer
        Trained.
    examples : Examples
        Rows.
    text_vectors : ndarray of shape (n_texts, text_width), float32, or None
        Vector of each text of the sequences; None for a network without texts.
    """
    model.eval()
    vectors = None if text_vectors is None else torch.from_numpy(text_vectors)
    logits = [np.zeros(0)]
    with torch.inference_mode():
        for start in range(0, len(examples), 1024):
            part = examples.take(np.arange(start, min(start + 1024, len(examples))))
            logits.append(model(**to_tensors(model, part, vectors)).logit.double().cpu().numpy())
    return np.concatenate(logits)


def encode_texts(runtime: Runtime, tokens: Tokens, numbers: np.ndarray, width: int) -> np.ndarray:
    """Embed the texts with these numbers, shape (n_texts, width), float32; ``runtime`` is that of ``TextVectors``.

    The batch of a text hardly matters (see ``Encoder.encode``).
    """
    result = np.zeros((len(numbers), width), dtype=np.float32)
    batches = token_batches(tokens.lengths[numbers], runtime.batch_tokens)
    padded = ((batch, tokens.batch(numbers[batch])) for batch in batches)
    runtime.embed(padded, result)
    return result


def log_loss_at(model: ChurnTransformer, later: Examples, tokens: Tokens, vectors: np.ndarray | None = None) -> float:
    """Log-loss on rows of a later snapshot in nats, at their true churn rate, as the level is set separately.

    Texts are embedded by the network's own encoder, unless vectors are given.
    """
    if later.churned is None:
        raise ValueError("later rows must have labels")
    if model.config.encoder is not None:
        read = np.unique(later.sequences.texts[later.sequences.texts >= 0])
        vectors = np.zeros((len(tokens.ids), model.encoder.config.hidden_size), np.float32)
        vectors[read] = encode_texts(TorchRuntime(TextVectors(model), "torch-float32"), tokens, read, vectors.shape[1])
    logit = predict(model, later, vectors)
    logit += level_shift(logit, float(later.churned.mean()))
    return float(np.mean(np.logaddexp(0, -logit * np.where(later.churned == 1, 1, -1))))


def prepare_fine_tuning(model: ChurnTransformer, settings: TransformerSettings) -> None:
    """Set which weights of the text encoder are trained."""
    if model.config.encoder is None:
        return
    encoder = model.encoder
    encoder.requires_grad_(settings.fine_tuning == "full")
    if settings.fine_tuning == "top":
        for layer in _layers(encoder)[-settings.top_layers :]:
            layer.requires_grad_(True)
    elif settings.fine_tuning == "lora":
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=settings.dropout, target_modules=_attention(encoder))
        model.encoder = get_peft_model(encoder, lora)


def _layers(encoder: torch.nn.Module) -> torch.nn.ModuleList:
    """The stack of layers of an encoder, whatever its architecture calls it: the longest list of modules."""
    lists = [module for module in encoder.modules() if isinstance(module, torch.nn.ModuleList)]
    if not lists:
        raise ChurnRadarError(f"CHURN_ENCODER: {type(encoder).__name__} has no stack of layers; expected a transformer")
    return max(lists, key=len)


def _attention(encoder: torch.nn.Module) -> list[str] | str:
    """Names of the query and value projections, which LoRA adapts (Hu et al. 2021)."""
    names = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)}
    known = [n for n in names if n in ("query", "value", "q_lin", "v_lin", "q_proj", "v_proj", "q", "v", "Wqkv")]
    return known or "all-linear"
