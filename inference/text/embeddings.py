"""The table of text embeddings: each text is encoded once per encoder revision, also if a build is killed."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.text.aspects import ASPECTS, aspect_scores, aspects_revision, check_aspects
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import DiskVectors, list_array
from inference.warehouse.manifest import engine

if TYPE_CHECKING:
    from inference.text.encoder.spark_encoder import SparkEncoder

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        ("text_id", pa.string()),
        ("source_table", pa.string()),
        ("customer_id", pa.string()),
        ("written_at", pa.timestamp("us")),
        ("text_hash", pa.string()),
        ("encoder_revision", pa.string()),
        ("aspects_revision", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        *((f"{aspect}_score", pa.float64()) for aspect in ASPECTS),
        ("complaint_score", pa.float64()),
    ]
)
#: A row with the same values of these is up to date.
KEY = ["text_id", "text_hash", "encoder_revision", "aspects_revision"]


def embed_new_texts(
    texts: pd.DataFrame,
    stored: pd.DataFrame | None,
    aspects: pd.DataFrame,
    load_encoder: "Callable[[], Encoder | SparkEncoder] | None" = None,
) -> pa.Table:
    """Embed the texts whose rows are missing or outdated.

    Parameters
    ----------
    texts : DataFrame
        ``text_id``, ``source_table``, ``customer_id``, ``written_at`` and ``text``; empty texts are skipped.
    stored : DataFrame or None
        ``KEY`` of the stored rows.
    aspects : DataFrame
        The seed ``aspect_descriptions``: ``aspect``, ``polarity`` (complaint or praise) and ``description``.
    load_encoder : callable, optional
        Returns the encoder, and is not called if there is no text; by default the shop's, of the engine in use.

    Returns
    -------
    pyarrow.Table
        One row of ``SCHEMA`` per text that is new, changed, or stored for another encoder or other descriptions.

    Raises
    ------
    ChurnRadarError
        If an aspect lacks a complaint or a praise.
    """
    check_aspects(aspects)
    cleaned = texts.text.fillna("").map(clean_text)
    texts = texts.assign(text=cleaned)[cleaned != ""]
    if texts.empty:
        logger.info("review_embeddings: no text to encode")
        return SCHEMA.empty_table()
    encoder = (load_encoder or _shop_encoder)()
    texts = texts.assign(
        text_hash=texts.text.map(hash_text),
        encoder_revision=encoder.revision,
        aspects_revision=aspects_revision(aspects),
    )
    keys = set() if stored is None else set(stored[KEY].itertuples(index=False, name=None))
    new = texts[[key not in keys for key in texts[KEY].itertuples(index=False, name=None)]]
    by_hash = dict(zip(new.text_hash, new.text, strict=True))
    vectors, n_encoded = DiskVectors(encoder.texts_per_save).vectors(encoder.revision, by_hash, encoder.encode)
    logger.info(
        f"review_embeddings: encoded {n_encoded:,} texts, {len(new):,} of {len(texts):,} rows new; "
        f"encoder {encoder.settings.name}, revision {encoder.revision}"
    )
    if new.empty:
        return SCHEMA.empty_table()
    matrix = np.vstack([vectors[text_hash] for text_hash in new.text_hash])
    scores = aspect_scores(matrix, aspects, encoder.encode(list(aspects.description)))
    columns = {name: new[name] for name in SCHEMA.names if name in new} | scores
    columns["written_at"] = pd.to_datetime(new.written_at)
    arrays = [
        list_array(matrix) if field.name == "embedding" else pa.array(columns[field.name], field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _shop_encoder() -> "Encoder | SparkEncoder":
    if engine() == "spark":
        from inference.text.encoder.spark_encoder import SparkEncoder  # pyspark is an optional dependency

        return SparkEncoder()
    return Encoder.shared()
