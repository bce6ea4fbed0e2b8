"""Checkpoints of an unfinished training on disk, and the loss curves of a training."""

import hashlib
import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from inference.home import home, whole_file
from inference.model.transformer.batches import Examples
from inference.model.transformer.network import ChurnTransformer
from inference.model.transformer.settings import TransformerSettings

logger = logging.getLogger(__name__)


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
        Number of passes with the lowest log-loss on the later snapshot.
    seconds : float
        Duration, over all resumptions.
    """

    steps: list[dict] = field(default_factory=list)
    later: list[dict] = field(default_factory=list)
    best_epochs: float = math.nan
    seconds: float = 0.0


class Checkpoint:
    """State of an unfinished training on disk.

    Its name is a hash of everything that the training depends on: rows, texts, settings, number of passes and the
    weights that it starts from.
    """

    def __init__(
        self,
        examples: Examples,
        settings: TransformerSettings,
        n_epochs: float,
        model: ChurnTransformer,
        later: Examples | None = None,
        vectors: np.ndarray | None = None,
    ) -> None:
        digest = hashlib.sha256(repr((n_epochs, sorted(_as_dict(settings).items()))).encode())
        for rows in [examples] if later is None else [examples, later]:
            for array in (rows.tabular_logit, rows.numbers, rows.churned, rows.spend):
                digest.update(np.ascontiguousarray(array).tobytes())
            for part in ("event_types", "event_categories", "event_numbers", "texts", "text_subjects", "text_numbers"):
                digest.update(np.ascontiguousarray(getattr(rows.sequences, part)).tobytes())
        digest.update("\n".join(examples.sequences.words).encode())
        if vectors is not None:  # they depend on the encoder
            digest.update(np.ascontiguousarray(vectors).tobytes())
        for weights in model.state_dict().values():
            digest.update(weights.detach().float().cpu().numpy().tobytes())
        self.key = digest.hexdigest()[:16]
        self.path = checkpoints() / f"{self.key}.pt"
        self.seconds, self.written = settings.checkpoint_seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self.written >= self.seconds

    def write(
        self,
        model: ChurnTransformer,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        step: int,
        history: History,
        best: dict | None,
    ) -> None:
        """Save everything that the rest of the training depends on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": step,
            "model": learned_state(model),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generators": random_state(),
            "history": asdict(history),
            "best": best,
        }
        with whole_file(self.path) as beside:
            torch.save(state, beside)
        self.written = time.monotonic()

    def read(self) -> dict | None:
        """Return the saved state; None, with a line in the log, where there is a file that cannot be resumed from."""
        for other in checkpoints().glob("*-*.pt"):
            logger.info(
                "%s: checkpoint of an older version is not resumed; this training starts from the beginning", other
            )
            other.unlink()
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
            if not {"step", "model", "optimizer", "schedule", "generators", "history", "best"} <= state.keys():
                raise ValueError("incomplete")
            state["history"] = History(**state["history"])
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).strip().splitlines()[0][:80] if str(error).strip() else type(error).__name__
            logger.info(
                "%s: the checkpoint cannot be read (%s); this training starts from the beginning", self.path, reason
            )
            return None
        logger.info("checkpoint %s: resumed after step %s", self.key, f"{state['step']:,}")
        return state


def checkpoints() -> Path:
    """Folder of unfinished trainings."""
    return home() / "checkpoints"


def forget_checkpoints() -> None:
    """Delete all checkpoints, after the model was registered."""
    shutil.rmtree(checkpoints(), ignore_errors=True)


def random_state() -> list[torch.Tensor]:
    """States of PyTorch's random generators, which dropout draws from: of the CPU, then of each GPU."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def restore_random_state(state: list[torch.Tensor]) -> None:
    """Restore ``random_state``; a GPU that was not there then keeps its own."""
    torch.set_rng_state(state[0])
    for number, of_gpu in enumerate(state[1 : torch.cuda.device_count() + 1]):
        torch.cuda.set_rng_state(of_gpu, number)


def learned_state(model: ChurnTransformer) -> dict[str, torch.Tensor]:
    """Copy the weights that are trained."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def _as_dict(settings: TransformerSettings) -> dict:
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "checkpoint_seconds"}
