"""The training loop of the fused transformer."""

import time

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import get_cosine_schedule_with_warmup

from inference.errors import ChurnRadarError
from inference.model.level import level_shift
from inference.model.transformer.batches import Examples, Tokens, batches_of_step, to_tensors, training_tensors
from inference.model.transformer.checkpoints import Checkpoint, History, curves, learned_state, restore_chance
from inference.model.transformer.network import ChurnTransformer, TextVectors
from inference.model.transformer.settings import TransformerSettings
from inference.progress import track
from inference.text.encoder.runtimes import Runtime, token_batches
from inference.text.encoder.torch_runtime import TorchRuntime

#: Looks at a later snapshot, two an epoch, without improvement after which training stops. Words take a
#: while to be heard: on the simulated shop nothing improved for the first three looks, then much.
PATIENCE = 4


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
            restore_chance(state["generators"])
            history, best = state["history"], state["best"]
        first = state["step"] if state else 0
        started, recent = time.monotonic() - history.seconds, []
        for step in track(range(first, n_steps), name, completed=first):
            model.train()
            chance = np.random.default_rng([settings.seed, step])
            for batch in batches_of_step(step, examples, settings):
                inputs = training_tensors(model, examples.take(batch), tokens, chance, vectors)
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
            output = model(**to_tensors(model, part, vectors))
            logits.append(output.logit.double().cpu().numpy())
            spends.append(output.log_spend.double().cpu().numpy())
    return np.concatenate(logits), np.concatenate(spends)


def encode_texts(runtime: Runtime, tokens: Tokens, numbers: np.ndarray, width: int) -> np.ndarray:
    """Read some texts, each nearly independent of the batch that it falls into (see ``Encoder.encode``).

    Parameters
    ----------
    runtime : Runtime
        Made of the network's ``TextVectors``.
    tokens : Tokens
        Texts.
    numbers : ndarray of shape (n_texts,), int64
        Which of them.
    width : int
        Length of a vector.

    Returns
    -------
    ndarray of shape (n_texts, width), float32
    """
    result = np.zeros((len(numbers), width), dtype=np.float32)
    batches = list(token_batches(tokens.lengths[numbers], runtime.batch_tokens)) if len(numbers) else []
    padded = ((batch, tokens.batch(numbers[batch])) for batch in track(batches, f"Reading {len(numbers):,} texts"))
    runtime.embed(padded, result)
    return result


def log_loss_at(model: ChurnTransformer, later: Examples, tokens: Tokens, vectors: np.ndarray | None = None) -> float:
    """Log-loss on rows of a snapshot with labels, in nats, at their true level: the level has its own anchor.

    Texts are read as the encoder stands, unless vectors are given.
    """
    if model.config.encoder is not None:
        read = np.unique(later.sequences.texts[later.sequences.texts >= 0])
        vectors = np.zeros((len(tokens.ids), model.encoder.config.hidden_size), np.float32)
        vectors[read] = encode_texts(TorchRuntime(TextVectors(model), "torch-float32"), tokens, read, vectors.shape[1])
    logit, _ = predict(model, later, vectors)
    logit += level_shift(logit, float(later.churned.mean()))
    return float(np.mean(np.logaddexp(0, -logit * np.where(later.churned == 1, 1, -1))))


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
