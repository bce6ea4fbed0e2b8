"""Fingerprints of the features that a score comes from."""

import hashlib

import numpy as np
import pandas as pd

from inference.model.sequences import Sequences
from inference.model.words import WORDS_LOGIT

#: Arrays of the sequences that enter the fingerprint, one row per customer.
SEQUENCE_ARRAYS = ("event_types", "event_numbers", "text_numbers")


def features_hash(X: pd.DataFrame, sequences: Sequences | None, embeddings: np.ndarray | None) -> list[str]:
    """Fingerprint the inputs of a model for each customer.

    Parameters
    ----------
    X : DataFrame of shape (n_customers, n_features)
        Features, float64.
    sequences : Sequences or None
        Events and texts; None where the model does not read them.
    embeddings : ndarray of shape (n_customers, dimension) or None
        Pooled embeddings; None where the model does not read them.

    Returns
    -------
    list of str
        32 hexadecimal digits per customer, equal for equal inputs on any machine.
    """
    # the log-odds of the words are computed from the embeddings, and their last bits depend on the batch
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
