"""Cache of text vectors per encoder revision: Parquet files for builds, memory for the HTTP service."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from inference.home import home, whole_file
from inference.progress import track
from inference.text.encoder.settings import EncoderSettings, choose_device

#: Texts encoded between two saves, which take some seconds; a killed build loses at most these.
TEXTS_PER_SAVE = {"cpu": 2048, "cuda": 65_536}

logger = logging.getLogger(__name__)

#: A text, or whatever stands for one for the function that encodes it.
Text = TypeVar("Text")


@dataclass(frozen=True)
class DiskVectors:
    """Parquet files in ``embeddings/<revision>`` of the home folder."""

    #: Texts encoded between two saves; ``TEXTS_PER_SAVE`` of the device by default.
    texts_per_save: int | None = None

    def vectors(
        self, revision: str, texts: Mapping[str, Text], encode: Callable[[list[Text]], np.ndarray]
    ) -> tuple[dict[str, np.ndarray], int]:
        """See ``cached_vectors``; vectors are saved as they are encoded, so that a killed build resumes."""
        folder = _folder(revision)
        vectors = _read_saved(folder, list(texts))
        missing = [text_hash for text_hash in texts if text_hash not in vectors]
        size = self.texts_per_save or TEXTS_PER_SAVE[choose_device(EncoderSettings.from_environment().device)]
        for start in track(range(0, len(missing), size), f"Encoding {len(missing):,} texts"):
            part = missing[start : start + size]
            encoded = encode([texts[text_hash] for text_hash in part])
            _save_file(folder, part, encoded)
            vectors.update(zip(part, encoded, strict=True))
        return vectors, len(missing)


class MemoryVectors:
    """LRU cache of up to ``max_vectors`` vectors in memory, for the HTTP service."""

    def __init__(self, max_vectors: int) -> None:
        self._max_vectors = max_vectors
        self.revision: str | None = None
        self._vectors: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def load(self, revision: str) -> None:
        """Fill the cache with saved vectors of a revision."""
        saved = _read_saved(_folder(revision), None, self._max_vectors)
        self._vectors.update({(revision, text_hash): vector for text_hash, vector in saved.items()})
        self.revision = revision

    def vectors(
        self, revision: str, texts: Mapping[str, Text], encode: Callable[[list[Text]], np.ndarray]
    ) -> tuple[dict[str, np.ndarray], int]:
        """See ``cached_vectors``; nothing is saved."""
        keys = {text_hash: (revision, text_hash) for text_hash in texts}
        missing = [text_hash for text_hash, key in keys.items() if key not in self._vectors]
        if missing:
            encoded = encode([texts[text_hash] for text_hash in missing])
            self._vectors.update({keys[text_hash]: vector for text_hash, vector in zip(missing, encoded, strict=True)})
        for key in keys.values():
            self._vectors.move_to_end(key)
        result = {text_hash: self._vectors[key] for text_hash, key in keys.items()}
        while len(self._vectors) > self._max_vectors:
            self._vectors.popitem(last=False)
        return result, len(missing)


#: Cache of this process.
_cache: DiskVectors | MemoryVectors = DiskVectors()


def use_cache(cache: DiskVectors | MemoryVectors) -> None:
    """Replace the cache of this process, ``DiskVectors`` by default: a service that scores keeps vectors in memory."""
    global _cache
    _cache = cache


def cached_vectors(
    revision: str, texts: Mapping[str, Text], encode: Callable[[list[Text]], np.ndarray]
) -> tuple[dict[str, np.ndarray], int]:
    """Return vectors of texts, from the cache if they are there, else encoded now.

    Parameters
    ----------
    revision : str
        Revision of the encoder: vectors of two revisions are never mixed.
    texts : mapping of str to str
        Texts by their hash.
    encode : callable
        Encodes a list of texts into an array of shape (n_texts, dimension).

    Returns
    -------
    (dict of str to ndarray, int)
        A vector per hash, and the number of texts that were encoded.
    """
    return _cache.vectors(revision, texts, encode)


def list_array(matrix: np.ndarray) -> pa.Array:
    """Convert a matrix, float32, to an Arrow array with one list per row."""
    offsets = pa.array(np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix, dtype=np.float32).ravel()))


def _folder(revision: str) -> Path:
    folder = home() / "embeddings" / revision
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_saved(folder: Path, hashes: list[str] | None, limit: int | None = None) -> dict[str, np.ndarray]:
    """Read the saved vectors of some hashes, or any ``limit`` of them if hashes is None; remove damaged files."""
    try:
        return _read_files(folder, hashes, limit)
    except duckdb.Error:
        damaged = [file for file in folder.glob("*.parquet") if not _is_whole(file)]
        if not damaged:
            raise
        for file in damaged:
            file.unlink()
            logger.warning("%s: damaged, and removed; its texts are encoded again", file)
        return _read_files(folder, hashes, limit)


def _is_whole(file: Path) -> bool:
    try:
        return pq.read_table(file).column_names == ["text_hash", "embedding"]
    except (pa.ArrowException, OSError):
        return False


def _read_files(folder: Path, hashes: list[str] | None, limit: int | None) -> dict[str, np.ndarray]:
    files = [] if hashes == [] else [str(file) for file in folder.glob("*.parquet")]
    if not files:
        return {}
    selection = "" if hashes is None else "semi join wanted using (text_hash)"
    with duckdb.connect() as connection:
        if hashes is not None:
            # read keys first (2 % of the bytes) to find the files that hold wanted vectors
            connection.register("wanted", pd.DataFrame({"text_hash": hashes}))
            query = f"select distinct filename from read_parquet($files, filename = true) {selection}"
            files = [file for (file,) in connection.execute(query, {"files": files}).fetchall()]
        if not files:
            return {}
        table = connection.execute(
            f"select any_value(embedding) as embedding, text_hash from read_parquet($files) {selection} "
            f"group by text_hash {f'limit {limit}' if limit else ''}",
            {"files": files},
        ).to_arrow_table()
    if table.num_rows == 0:  # the files may be empty, after an erasure
        return {}
    matrix = table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return dict(zip(table["text_hash"].to_pylist(), matrix, strict=True))


def _save_file(folder: Path, hashes: list[str], vectors: np.ndarray) -> None:
    with whole_file(folder / f"{hashes[0]}.parquet") as partial:
        pq.write_table(pa.table({"text_hash": hashes, "embedding": list_array(vectors)}), partial)
