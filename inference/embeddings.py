"""Embeddings of what customers wrote: each text once per encoder, kept through crashes."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from inference.encoder import Encoder, clean_text
from inference.encoder_settings import EncoderSettings, choose_device
from inference.engine import engine
from inference.errors import ChurnRadarError
from inference.home import home
from inference.on_demand import EncoderOnDemand

#: Texts that are encoded between two saves, some seconds of work; a killed build loses at most these.
TEXTS_PER_SAVE = {"cpu": 2048, "cuda": 65_536}

#: Saved parts that are read without asking first which of them hold what is wanted.
FEW_PARTS = 8

#: What customers praise or complain about; the seed aspect_descriptions describes each.
ASPECTS = ("delivery", "quality", "price", "service", "returns")

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


def cached_vectors(
    revision: str,
    wanted: dict[str, str],
    encode: Callable[[list[str]], np.ndarray],
    texts_per_save: int | None = None,
) -> tuple[dict[str, np.ndarray], int]:
    """Vectors of texts, from the folder of what reads them or read now and saved there.

    Parameters
    ----------
    revision : str
        Revision of what reads: vectors of two are never mixed.
    wanted : dict of str to str
        Texts by their hash.
    encode : callable
        Reads a list of texts into an array of shape (n_texts, dimension).
    texts_per_save : int, optional
        Texts that are read between two saves; ``TEXTS_PER_SAVE`` of the device where not given.

    Returns
    -------
    dict of str to ndarray
        A vector per hash.
    int
        How many had to be read.
    """
    if _at_hand is not None:
        return _at_hand.vectors(revision, wanted, encode)
    folder = _folder(revision)
    vectors = _read_parts(folder, list(wanted))
    missing = [text_hash for text_hash in wanted if text_hash not in vectors]
    at_once = texts_per_save or TEXTS_PER_SAVE[choose_device(EncoderSettings.from_environment().device)]
    for start in range(0, len(missing), at_once):
        part = missing[start : start + at_once]
        embedded = encode([wanted[text_hash] for text_hash in part])
        _save_part(folder, part, embedded)
        vectors.update(zip(part, embedded, strict=True))
    return vectors, len(missing)


def _encoder() -> Encoder | EncoderOnDemand:
    if engine() == "spark":
        from inference.spark_models import SparkEncoder  # of an extra

        return SparkEncoder()
    return EncoderOnDemand.shared()


class VectorsAtHand:
    """Vectors in memory, those that were asked for last: for a service, which reads few texts often.

    Parameters
    ----------
    most : int
        Vectors that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.revision: str | None = None
        self._vectors: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def load(self, revision: str) -> None:
        """Take in what builds have saved, up to the limit."""
        self.revision = revision
        saved = _read_parts(_folder(revision), None, self._most)
        self._vectors.update({(revision, text_hash): vector for text_hash, vector in saved.items()})

    def vectors(
        self, revision: str, wanted: dict[str, str], encode: Callable[[list[str]], np.ndarray]
    ) -> tuple[dict[str, np.ndarray], int]:
        """Return what ``cached_vectors`` does, with nothing saved on disk."""
        missing = [text_hash for text_hash in wanted if (revision, text_hash) not in self._vectors]
        if missing:
            embedded = encode([wanted[text_hash] for text_hash in missing])
            self._vectors.update({(revision, h): vector for h, vector in zip(missing, embedded, strict=True)})
        found = {}
        for text_hash in wanted:
            self._vectors.move_to_end((revision, text_hash))
            found[text_hash] = self._vectors[revision, text_hash]
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)
        return found, len(missing)


#: Where this process keeps vectors instead of on disk; nowhere unless ``keep_at_hand`` was called.
_at_hand: VectorsAtHand | None = None


def keep_at_hand(vectors: VectorsAtHand | None) -> None:
    """Make ``cached_vectors`` of this process use memory, or the disk again where None is given."""
    global _at_hand
    _at_hand = vectors


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


def _folder(revision: str) -> Path:
    folder = home() / "embeddings" / revision
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_parts(folder: Path, wanted: list[str] | None, most: int | None = None) -> dict[str, np.ndarray]:
    """Read the saved vectors of these hashes, or of any where none are given."""
    files = [str(file) for file in folder.glob("*.parquet")]
    if wanted == [] or not files:
        return {}
    of_these = "" if wanted is None else "semi join wanted using (text_hash)"
    with duckdb.connect() as connection:
        if wanted is not None:
            connection.register("wanted", pd.DataFrame({"text_hash": wanted}))
        if wanted is not None and len(files) > FEW_PARTS:
            # vectors are read of the parts alone that hold any: keys are a fiftieth of them
            holding = f"select distinct filename from read_parquet($files, filename = true) {of_these}"
            files = [file for (file,) in connection.execute(holding, {"files": files}).fetchall()]
            if not files:
                return {}
        parts = connection.execute(
            f"select any_value(embedding) as embedding, text_hash from read_parquet($files) {of_these} "
            f"group by text_hash {f'limit {most}' if most else ''}",
            {"files": files},
        ).to_arrow_table()
    if parts.num_rows == 0:
        return {}
    matrix = parts["embedding"].combine_chunks().flatten().to_numpy().reshape(parts.num_rows, -1)
    return dict(zip(parts["text_hash"].to_pylist(), matrix, strict=True))


def _save_part(folder: Path, hashes: list[str], embedded: np.ndarray) -> None:
    # written beside and renamed: a part is whole or not there
    partial = folder / f"{hashes[0]}.partial"
    pq.write_table(pa.table({"text_hash": hashes, "embedding": _list_array(embedded)}), partial)
    partial.replace(partial.with_suffix(".parquet"))


def _list_array(matrix: np.ndarray) -> pa.Array:
    offsets = pa.array(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix, dtype=np.float32).ravel()))


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def hash_text(text: str) -> str:
    """Key under which a text's vectors are kept."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _aspects_revision(aspects: pd.DataFrame) -> str:
    ordered = aspects.sort_values(["aspect", "polarity", "description"])
    return hash_text(ordered[["aspect", "polarity", "description"]].to_csv(index=False))[:16]
