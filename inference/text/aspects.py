"""Aspects: how far a text complains about delivery, quality and so on, by cosine to example descriptions."""

import numpy as np
import pandas as pd

from inference.errors import ChurnRadarError
from inference.text.cleaning import hash_text

#: Aspects of a shop; the seed aspect_descriptions has descriptions of each.
ASPECTS = ("delivery", "quality", "price", "service", "returns")


def aspect_scores(embeddings: np.ndarray, aspects: pd.DataFrame, described: np.ndarray) -> dict[str, np.ndarray]:
    """Score how far each text complains about each aspect rather than praises it.

    Parameters
    ----------
    embeddings : ndarray of shape (n_texts, dimension)
    aspects : DataFrame
        The seed ``aspect_descriptions``: ``aspect`` and ``polarity`` (complaint or praise).
    described : ndarray of shape (n_descriptions, dimension)
        Embedded descriptions, in the order of ``aspects``.

    Returns
    -------
    dict of str to ndarray of shape (n_texts,)
        ``<aspect>_score``: the largest cosine to a complaint minus the largest cosine to a praise, -2 to 2;
        ``complaint_score``: the same over the descriptions of all aspects.
    """
    # not a matrix product, whose last bits depend on how many texts are scored together
    cosines = np.einsum("td,sd->ts", unit_rows(embeddings), unit_rows(described)).astype(np.float64)
    is_complaint = (aspects.polarity == "complaint").to_numpy()

    def score(rows: np.ndarray) -> np.ndarray:
        return cosines[:, rows & is_complaint].max(axis=1) - cosines[:, rows & ~is_complaint].max(axis=1)

    scores = {f"{aspect}_score": score((aspects.aspect == aspect).to_numpy()) for aspect in ASPECTS}
    return scores | {"complaint_score": score(np.full(len(aspects), True))}


def check_aspects(aspects: pd.DataFrame) -> None:
    """Raise ChurnRadarError if an aspect lacks a description of a complaint or of a praise."""
    described = set(aspects[["aspect", "polarity"]].itertuples(index=False, name=None))
    missing = [f"{a} {p}" for a in ASPECTS for p in ("complaint", "praise") if (a, p) not in described]
    if missing:
        raise ChurnRadarError(
            f"seed aspect_descriptions: no description of {', '.join(missing)}; expected at least one of each"
        )


def aspects_revision(aspects: pd.DataFrame) -> str:
    """Hash of the descriptions, 16 hexadecimal digits, whatever their order."""
    ordered = aspects.sort_values(["aspect", "polarity", "description"])
    return hash_text(ordered[["aspect", "polarity", "description"]].to_csv(index=False))[:16]


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; rows of zeros stay."""
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
