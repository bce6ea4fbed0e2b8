"""What a training leaves on disk: checkpoints that it resumes from, and its curves."""

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from inference.home import home
from inference.model.transformer.batches import Examples
from inference.model.transformer.network import ChurnTransformer
from inference.model.transformer.settings import TransformerSettings


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
            "generators": chance_state(),
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
            if not {"step", "model", "optimizer", "schedule", "generators", "history", "best"} <= state.keys():
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


def chance_state() -> list[torch.Tensor]:
    """State of the generators that dropout draws from: the processor's, and that of each GPU."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def restore_chance(state: list[torch.Tensor]) -> None:
    """Set what ``chance_state`` answered; a GPU that was not there keeps its own."""
    torch.set_rng_state(state[0])
    for number, of_gpu in enumerate(state[1 : torch.cuda.device_count() + 1]):
        torch.cuda.set_rng_state(of_gpu, number)


def learned_state(model: ChurnTransformer) -> dict[str, torch.Tensor]:
    """Copy the weights that learn."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@contextmanager
def curves(key: str) -> Iterator[Callable]:
    """Give what writes scalars to TensorBoard, in ``$CHURN_HOME/tensorboard``."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(home() / "tensorboard" / key) as writer:
        yield writer.add_scalar


def _as_dict(settings: TransformerSettings) -> dict:
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "checkpoint_seconds"}
