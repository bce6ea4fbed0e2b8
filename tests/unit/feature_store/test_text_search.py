import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.filter_models import ComparisonFilter
from feast.types import Array, Float32, Float64, String
from tiny_encoder import LATE, LATE_TOO, LOVELY

from inference import cli
from inference.errors import ChurnRadarError
from inference.feature_store import text_search
from inference.feature_store.text_search import find_similar
from inference.home import home
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings

TODAY = pd.Timestamp("2024-03-02", tz="UTC")


def make_store(folder: Path, redis: str = "") -> FeatureStore:
    """A real feature store with the view of texts, nothing in it."""
    store = FeatureStore(
        config=RepoConfig(
            project="churn_radar",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={
                "type": "inference.feature_store.stores.HomeOnlineStore",
                "redis": redis,
                "path": "${CHURN_HOME}/feast/online.db",
            },
            entity_key_serialization_version=3,
        )
    )
    text = Entity(name="text", join_keys=["text_id"], value_type=ValueType.STRING)
    strings = ("kind", "customer_id", "quote", "encoder_revision")
    view = FeatureView(
        name="searchable_texts",
        entities=[text],
        schema=[
            *(Field(name=name, dtype=String) for name in strings),
            Field(name="written_at", dtype=String),
            Field(name="complaint_score", dtype=Float64),
            Field(name="embedding", dtype=Array(Float32), vector_index=True, vector_search_metric="cosine"),
        ],
        source=FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp"),
    )
    store.apply([text, view])
    return store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path)


def write(store: FeatureStore, texts: dict[str, list[float]], revision: str = "r1", at: pd.Timestamp = TODAY) -> None:
    """Write texts, by id, with their vectors."""
    rows = pd.DataFrame({"text_id": list(texts), "embedding": [np.float32(v) for v in texts.values()]})
    rows = rows.assign(
        kind="review",
        customer_id="c",
        quote="words of " + rows.text_id,
        encoder_revision=revision,
        written_at="2024-03-01",
        complaint_score=0.5,
        event_timestamp=at,
    )
    store.write_to_online_store("searchable_texts", rows)


def search(store: FeatureStore, query: list[float], top_k: int = 3, **filters: str) -> pd.DataFrame:
    chosen = [ComparisonFilter(type="eq", key=key, value=value) for key, value in filters.items()]
    features = ["searchable_texts:quote", "searchable_texts:embedding"]
    answer = store.retrieve_online_documents_v2(features, top_k, query, filters=chosen[0] if chosen else None)
    results = pd.DataFrame(answer.to_dict())
    return results if results.empty else results.sort_values("distance", ignore_index=True)


class TestSearch:
    def test_the_nearest_by_cosine_come_with_their_own_words(self, store):
        write(store, {"z": [1, 0.1], "a": [0, 3], "m": [5, 5], "b": [-1, 0]})
        results = search(store, [2, 0])
        assert list(results.text_id) == ["z", "m", "a"]
        assert list(results.quote) == ["words of z", "words of m", "words of a"]
        np.testing.assert_allclose(results.distance, 1 - np.array([1 / np.hypot(1, 0.1), np.sqrt(0.5), 0]), atol=1e-6)
        np.testing.assert_allclose(results.embedding[0], [1, 0.1], atol=1e-6)

    def test_it_searches_as_often_as_asked(self, store):
        write(store, {"a": [1, 0], "b": [0, 1]})
        assert search(store, [1, 0], 1).text_id[0] == "a"
        assert search(store, [0, 1], 1).text_id[0] == "b"

    def test_it_agrees_with_scikit_learn_on_many_texts(self, store):
        from sklearn.neighbors import NearestNeighbors

        vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
        write(store, {f"t{i:03}": list(vector) for i, vector in enumerate(vectors[1:])})
        results = search(store, vectors[0].tolist(), 10)
        distances, rows = NearestNeighbors(n_neighbors=10, metric="cosine").fit(vectors[1:]).kneighbors(vectors[:1])
        assert list(results.text_id) == [f"t{i:03}" for i in rows[0]]
        np.testing.assert_allclose(results.distance, distances[0], atol=1e-5)

    def test_a_filter_comes_before_the_search(self, store):
        write(store, {"old": [1, 0], "older": [1, 0]}, revision="r1")
        write(store, {"new": [0.1, 1]}, revision="r2")
        assert list(search(store, [1, 0], 1, encoder_revision="r2").text_id) == ["new"]

    def test_what_the_newest_snapshot_lacks_is_gone(self, store):
        write(store, {"a": [1, 0], "b": [0, 1]}, at=TODAY - pd.Timedelta(days=1))
        write(store, {"b": [0, 1]})
        assert list(search(store, [1, 0]).text_id) == ["b"]

    def test_vectors_of_another_dimension_are_never_compared(self, store):
        write(store, {"three": [1, 0, 0]}, revision="r1")
        write(store, {"two": [0, 1]}, revision="r2")
        assert list(search(store, [1, 0]).text_id) == ["two"]

    def test_a_zero_vector_is_similar_to_nothing(self, store):
        write(store, {"nothing": [0, 0], "something": [1, 1]})
        assert list(search(store, [1, 0]).text_id) == ["something", "nothing"]

    def test_an_empty_store_has_nothing(self, store):
        assert search(store, [1, 0]).empty

    def test_words_and_filters_on_numbers_are_refused(self, store):
        write(store, {"a": [1, 0]})
        with pytest.raises(ValueError, match="expected query, not query_string"):
            store.retrieve_online_documents_v2(["searchable_texts:quote"], 1, query_string="late")
        number = ComparisonFilter(type="gt", key="complaint_score", value=0.1)
        with pytest.raises(ValueError, match="expected no filter on a number"):
            store.retrieve_online_documents_v2(["searchable_texts:quote"], 1, [1.0, 0.0], filters=number)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(EncoderSettings(device="cpu", fidelity=1.0))


@pytest.fixture
def built(store, encoder, monkeypatch) -> Encoder:
    """A shop with texts that is built and applied, not materialised."""
    monkeypatch.setattr(text_search, "open_store", lambda: store)
    monkeypatch.setattr(text_search, "Encoder", lambda: encoder)
    export(encoder.revision)
    return encoder


@pytest.fixture
def materialised(store, encoder, built) -> Encoder:
    """The same with three texts in the online store."""
    vectors = encoder.encode([LATE, LOVELY, "ok"])
    write(store, dict(zip(["reviews:late", "reviews:lovely", "reviews:ok"], vectors, strict=True)), encoder.revision)
    return encoder


def export(*revisions: str) -> None:
    """Write what dbt exports."""
    file = home() / "features" / "searchable_texts.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"encoder_revision": pd.Series(revisions, dtype=str)}).to_parquet(file)


class TestFindSimilar:
    def test_a_paraphrase_finds_what_means_the_same(self, materialised):
        results = find_similar(LATE_TOO, 2)
        assert len(results) == 2
        assert results.text_id[0] == "reviews:late"
        expected = materialised.encode([LATE_TOO, LATE])
        assert results.similarity[0] == pytest.approx(expected[0] @ expected[1], abs=1e-5)
        assert results.similarity.is_monotonic_decreasing

    @pytest.mark.parametrize("text", ["", " \n", "<b></b>", "\x00"])
    def test_no_word_is_refused(self, text):
        with pytest.raises(ChurnRadarError, match="there is no word to search for"):
            find_similar(text, 5)

    def test_before_the_first_build(self):
        with pytest.raises(ChurnRadarError, match=r"searchable_texts\.parquet: no such file; run dbt build first"):
            find_similar(LATE, 5)

    def test_a_shop_without_texts(self):
        export()
        with pytest.raises(ChurnRadarError, match="the shop has no review or ticket with words"):
            find_similar(LATE, 5)

    def test_nothing_materialised(self, built):
        with pytest.raises(ChurnRadarError, match="no text of this encoder is in the online store"):
            find_similar(LATE, 5)

    def test_nothing_applied(self, built, store):
        store.delete_feature_view("searchable_texts")
        with pytest.raises(ChurnRadarError, match="the online store has no searchable_texts yet; run feast apply"):
            find_similar(LATE, 5)

    def test_applied_to_another_online_store(self, built, tmp_path, monkeypatch):
        monkeypatch.setenv("CHURN_HOME", str(tmp_path / "other"))
        export(built.revision)
        other = make_store(tmp_path / "other")
        other._provider.online_store.teardown(other.config, [], [])
        monkeypatch.setattr(text_search, "open_store", lambda: other)
        with pytest.raises(ChurnRadarError, match="the online store has no searchable_texts yet; run feast apply"):
            find_similar(LATE, 5)

    def test_texts_of_another_encoder(self, built):
        export("0123456789abcdef")
        expected = f"read by encoder revision 0123456789abcdef, but .* is revision {built.revision} on cpu"
        with pytest.raises(ChurnRadarError, match=expected):
            find_similar(LATE, 5)

    def test_only_vectors_of_the_current_encoder_are_found(self, materialised, store):
        write(store, {"reviews:other": materialised.encode([LATE_TOO])[0]}, revision="another")
        assert "reviews:other" not in set(find_similar(LATE_TOO, 5).text_id)


def test_redis_is_refused_in_one_line(built, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_search, "open_store", lambda: make_store(tmp_path / "redis", "127.0.0.1:1"))
    monkeypatch.setattr(sys, "argv", ["churn-radar", "similar", LATE])
    with pytest.raises(SystemExit):
        cli.main()
    expected = "churn-radar: CHURN_REDIS is set, but texts are searched in SQLite; "
    assert capsys.readouterr().err == f"{expected}unset it and run feast apply and feast materialize\n"
