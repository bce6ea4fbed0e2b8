"""Where a score comes from: fingerprints of its features and of the dbt project that built them."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from inference.home import PROJECT_DIR
from inference.model.sequences import Sequences
from inference.model.words import WORDS_LOGIT

#: Arrays of the sequences that say what happened, one row per customer.
SEQUENCE_ARRAYS = ("event_types", "event_numbers", "text_numbers")


def features_hash(X: pd.DataFrame, sequences: Sequences | None, embeddings: np.ndarray | None) -> list[str]:
    """Fingerprint what a model read of each customer.

    Parameters
    ----------
    X : DataFrame of shape (n_customers, n_features)
        Features, float64.
    sequences : Sequences or None
        Events and texts, where the model reads them.
    embeddings : ndarray of shape (n_customers, dimension) or None
        Pooled embeddings, where the model reads them.

    Returns
    -------
    list of str
        32 hexadecimal digits per customer; equal features give equal ones on any machine.
    """
    # what the model makes of the embeddings is left out: its last bits depend on who is scored beside
    names = list(X.columns)
    kept = [position for position, name in enumerate(names) if name != WORDS_LOGIT]
    columns, numbers = ",".join(names[position] for position in kept).encode(), X.to_numpy(dtype="<f8")[:, kept]
    # one bit pattern for null, and no negative zero
    numbers = np.where(np.isnan(numbers), np.nan, numbers + 0.0)
    parts = [np.ascontiguousarray(numbers)]
    if embeddings is not None:
        parts.append(np.ascontiguousarray(embeddings.astype("<f4")))
    if sequences is not None:
        parts += [np.ascontiguousarray(getattr(sequences, name)) for name in SEQUENCE_ARRAYS]
    hashes = []
    for row in range(len(X)):
        digest = hashlib.blake2b(columns, digest_size=16)
        for part in parts:
            digest.update(part[row].tobytes())
        if sequences is not None:
            digest.update("\n".join(sequences.words[i] for i in sequences.texts[row] if i >= 0).encode())
        hashes.append(digest.hexdigest())
    return hashes


def manifest_path() -> Path:
    """Where dbt keeps the manifest of the running or the last build."""
    folder = os.environ.get("DBT_TARGET_PATH", "target")
    here = Path.cwd() / folder / "manifest.json"
    return here if here.exists() else PROJECT_DIR / folder / "manifest.json"


def manifest_hash() -> str | None:
    """Fingerprint the dbt project: code and settings of every model, seed and macro of its manifest.

    Returns
    -------
    str or None
        32 hexadecimal digits; the same project gives the same ones in every run. None where there is no manifest.
    """
    manifest = manifest_path()
    if not manifest.exists():
        return None
    told = json.loads(manifest.read_text())
    nodes = {
        name: [node["checksum"]["checksum"], node["config"].get("materialized")]
        for name, node in told["nodes"].items()
        if node["resource_type"] in ("model", "seed")
    }
    # macros of dbt itself come with its version
    ours = {name.split(".")[1] for name in nodes}
    macros = {name: m["macro_sql"] for name, m in told["macros"].items() if name.split(".")[1] in ours}
    content = json.dumps([told["metadata"]["dbt_version"], nodes, macros], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
