"""Aspects: what customers praise or complain about, scored by the cosine to descriptions."""

import numpy as np
import pandas as pd

from inference.errors import ChurnRadarError
from inference.text.cleaning import hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.on_demand import EncoderOnDemand

#: What customers praise or complain about; the seed aspect_descriptions describes each.
ASPECTS = ("delivery", "quality", "price", "service", "returns")


def aspect_scores(
    embeddings: np.ndarray,
    aspects: pd.DataFrame,
    encoder: Encoder | EncoderOnDemand,
    described: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """How far each text complains about each aspect rather than praises it.

    Parameters
    ----------
    embeddings : ndarray of shape (n_texts, dimension)
        Embedded texts.
    aspects : DataFrame
        The seed ``aspect_descriptions``.
    encoder : Encoder
        Embeds the descriptions.
    described : ndarray of shape (n_descriptions, dimension), optional
        The embedded descriptions, where they were asked for before.

    Returns
    -------
    dict of str to ndarray of shape (n_texts,)
        ``<aspect>_score``: the largest cosine to a complaint about it minus the largest to a praise of it,
        -2 to 2; ``complaint_score``: the same over the descriptions of all aspects.
    """
    described = _unit(encoder.encode(list(aspects.description)) if described is None else described)
    # not by matrix product, whose last bits depend on how many texts are scored together
    cosines = np.einsum("td,sd->ts", _unit(embeddings), described).astype(np.float64)
    complaint = (aspects.polarity == "complaint").to_numpy()

    def score(of: np.ndarray) -> np.ndarray:
        return cosines[:, of & complaint].max(axis=1) - cosines[:, of & ~complaint].max(axis=1)

    scores = {f"{aspect}_score": score((aspects.aspect == aspect).to_numpy()) for aspect in ASPECTS}
    return scores | {"complaint_score": score(np.full(len(aspects), True))}


def _check_aspects(aspects: pd.DataFrame) -> None:
    described = set(aspects[["aspect", "polarity"]].itertuples(index=False, name=None))
    missing = [f"{a} {p}" for a in ASPECTS for p in ("complaint", "praise") if (a, p) not in described]
    if missing:
        raise ChurnRadarError(
            f"seed aspect_descriptions: no description of {', '.join(missing)}; expected at least one of each"
        )


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def _aspects_revision(aspects: pd.DataFrame) -> str:
    ordered = aspects.sort_values(["aspect", "polarity", "description"])
    return hash_text(ordered[["aspect", "polarity", "description"]].to_csv(index=False))[:16]
