"""Checkpoints of an unfinished training on disk, and the loss curves of a training."""

import logging
import math
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
import torch

from inference.home import home, whole_file
from inference.model.transformer.batches import Examples
from inference.model.transformer.network import ChurnTransformer
from inference.model.transformer.settings import TransformerSettings

logger = logging.getLogger(__name__)


@dataclass
class History:
    """Curves of a training."""

    #: ``step``, ``epoch``, ``loss`` (mean since the last entry) and ``learning_rate``.
    steps: list[dict] = field(default_factory=list)
    #: ``step``, ``epoch`` and ``log_loss`` on a later snapshot.
    later: list[dict] = field(default_factory=list)
    best_epochs: float = math.nan  # number of passes with the lowest log-loss on the later snapshot
    seconds: float = 0.0  # over all resumptions


class Checkpoint:
    """State of an unfinished training on disk.

    Its name is a hash of everything that the training depends on: rows, texts and their vectors, settings, number of
    passes and the weights that it starts from.
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
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in model.state_dict().items()}
        same = replace(settings, checkpoint_seconds=0.0)
        self.key = joblib.hash([n_epochs, same, examples, later, vectors, weights])
        self.path = checkpoints() / f"{self.key}.pt"
        self.seconds, self.written = settings.checkpoint_seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self.written >= self.seconds

    def write(self, state: dict) -> None:
        """Save everything that the rest of the training depends on."""
        with whole_file(self.path) as beside:
            torch.save(state, beside)
        self.written = time.monotonic()

    def read(self) -> dict | None:
        """Return the saved state; None where there is none, or, with a line in the log, where it is damaged."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
            step = state["step"]
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).strip().splitlines()[0][:80] if str(error).strip() else type(error).__name__
            logger.info(
                "%s: the checkpoint cannot be read (%s); this training starts from the beginning", self.path, reason
            )
            return None
        logger.info("checkpoint %s: resumed after step %s", self.key, f"{step:,}")
        return state


def checkpoints() -> Path:
    """Folder of unfinished trainings."""
    return home() / "checkpoints"


def forget_checkpoints() -> None:
    """Delete all checkpoints, after the model was registered."""
    shutil.rmtree(checkpoints(), ignore_errors=True)
