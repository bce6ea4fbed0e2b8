import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from inference.text.pooling import SCHEMA, pool_texts, recent_texts_filter

SNAPSHOTS = pd.DataFrame(
    {"customer_id": ["a", "b", "a"], "as_of_date": pd.to_datetime(["2024-03-01", "2024-03-01", "2024-04-15"])}
)

TEXTS = pd.DataFrame(
    columns=["text_id", "customer_id", "written_at", "known_at", "superseded_at", "embedding", "encoder_revision"]
).astype({"written_at": "datetime64[us]", "known_at": "datetime64[us]", "superseded_at": "datetime64[us]"})


def pool(*texts: tuple[str, str, str, list[float]], superseded_at: str | None = None) -> pd.DataFrame:
    """Pool texts of (customer, written, known, embedding), all of which are corrected at one time, if at all."""
    frame = pd.DataFrame(texts, columns=["customer_id", "written_at", "known_at", "embedding"])
    frame = frame.assign(
        text_id=[f"t{i}" for i in range(len(frame))],
        written_at=pd.to_datetime(frame.written_at),
        known_at=pd.to_datetime(frame.known_at),
        superseded_at=pd.to_datetime(superseded_at),
        encoder_revision="abc",
    )
    embeddings = pa.Table.from_pandas(frame[["text_id", "embedding", "encoder_revision"]])
    return pool_texts(SNAPSHOTS, frame.drop(columns=["embedding", "encoder_revision"]), embeddings).to_pandas()


def test_the_newer_text_weighs_more_by_half_lives_of_fifteen_days():
    pooled = pool(("a", "2024-02-15", "2024-02-15", [0.0, 3.0]), ("a", "2024-01-31", "2024-01-31", [3.0, 0.0]))
    first = pooled[pooled.as_of_date == pd.Timestamp("2024-03-01").date()].iloc[0]
    # 15 and 30 days old: weights 1/2 and 1/4
    np.testing.assert_allclose(first.text_embedding, [1.0, 2.0])
    assert first.texts_60d == 2
    assert first.encoder_revision == "abc"


def test_a_text_counts_from_when_it_was_written_and_had_arrived():
    pooled = pool(
        ("a", "2024-02-29 23:59", "2024-02-29 23:59", [1.0]),
        ("a", "2024-03-01 00:00", "2024-03-01 00:00", [9.0]),
        ("a", "2024-02-20 00:00", "2024-03-01 00:00", [9.0]),
    )
    assert pooled.texts_60d.tolist() == [1, 0, 3]
    np.testing.assert_allclose(pooled.text_embedding[0], [1.0])


def test_a_text_counts_until_a_correction_of_it_arrives():
    text = ("a", "2024-02-20", "2024-02-20", [1.0])
    assert pool(text, superseded_at="2024-02-29 23:59").texts_60d.tolist() == [0, 0, 0]
    assert pool(text, superseded_at="2024-03-01").texts_60d.tolist() == [1, 0, 0]
    assert pool(text).texts_60d.tolist() == [1, 0, 1]


def test_a_text_of_more_than_sixty_days_ago_is_forgotten():
    pooled = pool(("a", "2024-01-01", "2024-01-01", [1.0]), ("b", "2023-12-31", "2023-12-31", [1.0]))
    assert pooled.customer_id[pooled.texts_60d > 0].tolist() == ["a"]


def test_without_a_text_there_is_no_embedding():
    for pooled in (pool(), pool(("stranger", "2024-02-01", "2024-02-01", [1.0]))):
        assert pooled.customer_id.tolist() == ["a", "b", "a"]
        assert pooled.texts_60d.tolist() == [0, 0, 0]
        assert pooled.text_embedding.isna().all()
        assert pooled.encoder_revision.isna().all()


def test_no_snapshot_no_row():
    empty = pool_texts(SNAPSHOTS.head(0), TEXTS.head(0), pa.Table.from_pandas(TEXTS.head(0)))
    assert empty.num_rows == 0
    assert empty.schema == SCHEMA


def test_only_texts_that_a_snapshot_may_average_are_read():
    written = "(values (timestamp '2024-01-01'), (timestamp '2023-12-31 23:59:59')) as texts (written_at)"
    for snapshots, expected in ((SNAPSHOTS, [(True,), (False,)]), (SNAPSHOTS.head(0), [(False,), (False,)])):
        assert duckdb.sql(f"select {recent_texts_filter(snapshots)} from {written}").fetchall() == expected
