"""Embeddings of what customers wrote: each text once per encoder, kept through crashes."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from inference.text.aspects import ASPECTS, _aspects_revision, _check_aspects, aspect_scores
from inference.text.cleaning import clean_text, hash_text
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.on_demand import EncoderOnDemand
from inference.text.encoder.vector_cache import _list_array, cached_vectors
from inference.warehouse.manifest import engine

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


def embed_new_texts(
    texts: pd.DataFrame,
    stored: pd.DataFrame | None,
    aspects: pd.DataFrame,
    load_encoder: Callable[[], Encoder | EncoderOnDemand] | None = None,
) -> pa.Table:
    """Embed the texts that are not yet stored by this encoder and these aspect descriptions.

    Parameters
    ----------
    texts : DataFrame
        ``text_id``, ``source_table``, ``customer_id``, ``written_at`` and ``text``; texts without a word are
        left out.
    stored : DataFrame or None
        ``text_id``, ``text_hash``, ``encoder_revision`` and ``aspects_revision`` of the rows that are there.
    aspects : DataFrame
        The seed: ``aspect``, ``polarity`` (complaint or praise) and ``description``.
    load_encoder : callable, optional
        Loads the encoder; not called where there is no text. The shop's, of the engine in use, where not given.

    Returns
    -------
    pyarrow.Table
        One row of ``SCHEMA`` per text that is new, changed, or stored by another encoder or with other
        aspect descriptions.

    Raises
    ------
    ChurnRadarError
        If an aspect lacks a complaint or a praise, or the encoder cannot be loaded.
    """
    _check_aspects(aspects)
    cleaned = texts.text.fillna("").map(clean_text)
    texts = texts.assign(text=cleaned)[cleaned != ""]
    if texts.empty:
        print("review_embeddings: no text to encode")
        return SCHEMA.empty_table()
    encoder = (load_encoder or _encoder)()
    texts = texts.assign(
        text_hash=texts.text.map(hash_text),
        encoder_revision=encoder.revision,
        aspects_revision=_aspects_revision(aspects),
    )
    key = ["text_id", "text_hash", "encoder_revision", "aspects_revision"]
    known = set() if stored is None else set(stored[key].itertuples(index=False, name=None))
    new = texts[[row not in known for row in texts[key].itertuples(index=False, name=None)]]
    wanted, at_once = dict(zip(new.text_hash, new.text, strict=True)), getattr(encoder, "texts_per_save", None)
    vectors, encoded = cached_vectors(encoder.revision, wanted, encoder.encode, at_once)
    print(
        f"review_embeddings: encoded {encoded:,} texts, {len(new):,} of {len(texts):,} rows new; "
        f"encoder {encoder.settings.name}, revision {encoder.revision}"
    )
    if new.empty:
        return SCHEMA.empty_table()
    matrix = np.vstack([vectors[text_hash] for text_hash in new.text_hash])
    scores = aspect_scores(matrix, aspects, encoder)
    columns = {name: new[name] for name in SCHEMA.names if name in new} | scores
    columns["written_at"] = pd.to_datetime(new.written_at)
    arrays = [
        _list_array(matrix) if field.name == "embedding" else pa.array(columns[field.name], field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _encoder() -> Encoder | EncoderOnDemand:
    if engine() == "spark":
        from inference.text.encoder.spark_encoder import SparkEncoder  # of an extra

        return SparkEncoder()
    return EncoderOnDemand.shared()
