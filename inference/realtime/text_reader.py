"""Embeddings and complaint scores of new texts, by the encoder and the aspects of the last build."""

import numpy as np

from inference.errors import ChurnRadarError
from inference.realtime.history import ReadText
from inference.realtime.shop import OnlineShop
from inference.text.aspects import aspect_scores
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import MemoryVectors, use_cache

#: Texts whose results are kept in memory, about 1.5 kB each.
MAX_TEXTS = 100_000


class TextReader:
    """Reads texts, each once: a customer's texts come again with each of their events.

    Parameters
    ----------
    shop : OnlineShop
        The last build.
    vectors : MemoryVectors
        Cache of embeddings, which outlives the build.
    """

    def __init__(self, shop: OnlineShop, vectors: MemoryVectors) -> None:
        self._shop, self._vectors = shop, vectors
        self._results: dict[str, ReadText] = {}

    def encoder(self) -> Encoder:
        """Load the encoder of this process.

        Raises
        ------
        ChurnRadarError
            If it is not the encoder of the build.
        """
        encoder = Encoder.shared()
        if self._shop.encoder_revision not in (None, encoder.revision):
            raise ChurnRadarError(
                f"the last build read texts by encoder {self._shop.encoder_revision}, and this process has "
                f"{encoder.revision}; expected one encoder: set CHURN_ENCODER to that of the build"
            )
        if self._vectors.revision != encoder.revision:
            encoder.load()
            self._vectors.load(encoder.revision)
            use_cache(self._vectors)
        return encoder

    def read(self, text: str) -> ReadText:
        """Embed and score a text, or return the earlier result."""
        key = hash_text(text)
        if key not in self._results:
            if len(self._results) >= MAX_TEXTS:
                self._results.clear()
            self._results[key] = self._read(text)
        return self._results[key]

    def _read(self, text: str) -> ReadText:
        encoder, aspects = self.encoder(), self._shop.aspects
        cleaned = [clean_text(text) for text in (text, *aspects.description)]
        by_hash, _ = self._vectors.vectors(encoder.revision, {hash_text(t): t for t in cleaned}, encoder.encode)
        vectors = np.vstack([by_hash[hash_text(text)] for text in cleaned])
        scores = aspect_scores(vectors[:1], aspects, vectors[1:])
        return ReadText(vectors[0], {name: float(values[0]) for name, values in scores.items()})
