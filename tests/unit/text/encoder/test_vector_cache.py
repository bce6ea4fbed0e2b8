import duckdb
import numpy as np
import pytest

from inference.text.encoder.vector_cache import DiskVectors, MemoryVectors, _folder, _save_file


def refuse(texts: list[str]) -> np.ndarray:
    raise AssertionError(f"{texts} are encoded though they were saved")


def test_the_service_loads_what_builds_saved() -> None:
    saved, _ = DiskVectors().vectors("r1", {"a": "late", "b": "fine"}, lambda texts: np.eye(2, dtype=np.float32))
    cache = MemoryVectors(10)
    cache.load("r1")
    vectors, n_encoded = cache.vectors("r1", {"b": "fine", "a": "late"}, refuse)
    assert (n_encoded, cache.revision) == (0, "r1")
    np.testing.assert_array_equal([vectors["a"], vectors["b"]], [saved["a"], saved["b"]])


def test_a_cache_that_an_erasure_has_emptied_is_loaded() -> None:
    _save_file(_folder("r1"), ["a"], np.ones((1, 2), np.float32))
    (file,) = _folder("r1").glob("*.parquet")
    emptied = file.with_name("emptied.parquet")
    duckdb.sql(f"copy (from '{file}' limit 0) to '{emptied}'")
    emptied.replace(file)
    cache = MemoryVectors(10)
    cache.load("r1")
    assert cache.revision == "r1"
    assert DiskVectors().vectors("r1", {"a": "late"}, lambda texts: np.zeros((1, 2), np.float32))[1] == 1


@pytest.mark.parametrize("damage", [lambda content: content[:-10], lambda content: b"", lambda content: b"garbage"])
def test_a_damaged_file_is_removed_and_its_texts_are_encoded_again(damage, caplog) -> None:
    for name in "ab":
        _save_file(_folder("r1"), [name], np.ones((1, 2), np.float32))
    file = _folder("r1") / "a.parquet"
    file.write_bytes(damage(file.read_bytes()))
    texts, encoded = {"a": "late", "b": "fine"}, []
    DiskVectors().vectors("r1", texts, lambda texts: encoded.extend(texts) or np.ones((len(texts), 2), np.float32))
    assert encoded == ["late"]
    assert f"{file}: damaged, and removed" in caplog.text
    cache = MemoryVectors(10)
    cache.load("r1")
    assert cache.vectors("r1", texts, refuse)[1] == 0
