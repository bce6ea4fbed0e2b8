"""Vectors of texts, cached on disk per encoder revision, or in memory for the HTTP service."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from inference.home import home
from inference.text.encoder.settings import EncoderSettings, choose_device

#: Texts that are encoded between two saves, some seconds of work; a killed build loses at most these.
TEXTS_PER_SAVE = {"cpu": 2048, "cuda": 65_536}


#: Saved parts that are read without asking first which of them hold what is wanted.
FEW_PARTS = 8


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
