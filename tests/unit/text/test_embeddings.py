import numpy as np
import pandas as pd
import pytest
from tiny_encoder import make_tiny_encoder

from inference.errors import ChurnRadarError
from inference.home import PROJECT_DIR, home
from inference.text.aspects import ASPECTS, aspect_scores
from inference.text.embeddings import embed_new_texts
from inference.text.encoder import vector_cache
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.settings import EncoderSettings

SEED = pd.read_csv(PROJECT_DIR / "seeds" / "aspect_descriptions.csv")


def make_texts(*texts: str | None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text_id": [f"reviews:r{i}" for i in range(len(texts))],
            "source_table": "reviews",
            "customer_id": "c",
            "written_at": pd.Timestamp("2024-03-01 12:00"),
            "text": list(texts),
        }
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Encoder:
    return Encoder(EncoderSettings(make_tiny_encoder(tmp_path_factory.mktemp("tiny")), "cpu", fidelity=1.0))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Encoder:
    path = make_tiny_encoder(tmp_path_factory.mktemp("other"), dimension=16, seed=1)
    return Encoder(EncoderSettings(path, "cpu", fidelity=1.0))


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """Texts of customers that were encoded, in order."""
    seen: list[str] = []
    encode = Encoder.encode

    def spy(self, texts):
        seen.extend(text for text in texts if text not in set(SEED.description))
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "encode", spy)
    return seen


def test_every_text_with_words_gets_a_row(tiny):
    table = embed_new_texts(make_texts("late parcel", " ", None, "lovely"), None, SEED, lambda: tiny).to_pandas()
    assert list(table.text_id) == ["reviews:r0", "reviews:r3"]
    assert list(table.encoder_revision) == [tiny.revision] * 2
    assert [len(embedding) for embedding in table.embedding] == [24, 24]
    np.testing.assert_allclose(np.vstack(table.embedding), tiny.encode(["late parcel", "lovely"]), atol=1e-6)


def test_a_shop_without_text_loads_no_encoder(caplog):
    caplog.set_level("INFO")

    def never() -> Encoder:
        raise AssertionError("the encoder was loaded")

    assert embed_new_texts(make_texts("", None), None, SEED, never).num_rows == 0
    assert caplog.messages == ["review_embeddings: no text to encode"]


def test_stored_texts_are_not_encoded_again(tiny, encoded, caplog):
    caplog.set_level("INFO")
    texts = make_texts("late parcel", "lovely")
    stored = embed_new_texts(texts, None, SEED, lambda: tiny).to_pandas()
    encoded.clear()
    assert embed_new_texts(texts, stored, SEED, lambda: tiny).num_rows == 0
    assert encoded == []
    assert "encoded 0 texts, 0 of 2 rows new" in caplog.text


def test_a_changed_text_is_encoded_again(tiny, encoded):
    stored = embed_new_texts(make_texts("late parcel", "lovely"), None, SEED, lambda: tiny).to_pandas()
    encoded.clear()
    again = embed_new_texts(make_texts("late parcel", "broken"), stored, SEED, lambda: tiny)
    assert again["text_id"].to_pylist() == ["reviews:r1"]
    assert encoded == ["broken"]


def test_another_encoder_encodes_all_and_never_mixes(tiny, other, encoded):
    texts = make_texts("late parcel", "lovely")
    stored = embed_new_texts(texts, None, SEED, lambda: tiny).to_pandas()
    encoded.clear()
    again = embed_new_texts(texts, stored, SEED, lambda: other).to_pandas()
    assert encoded == ["late parcel", "lovely"]
    assert list(again.encoder_revision) == [other.revision] * 2
    assert [len(embedding) for embedding in again.embedding] == [16, 16]


def test_new_aspect_descriptions_score_again_without_encoding_again(tiny, encoded):
    texts = make_texts("late parcel", "lovely")
    stored = embed_new_texts(texts, None, SEED, lambda: tiny).to_pandas()
    encoded.clear()
    edited = SEED.assign(description=SEED.description.where(SEED.index > 0, "a late parcel"))
    assert embed_new_texts(texts, stored, edited, lambda: tiny).num_rows == 2
    assert [text for text in encoded if text != "a late parcel"] == []


def test_a_killed_build_resumes(tiny, encoded, monkeypatch):
    monkeypatch.setattr(vector_cache, "TEXTS_PER_SAVE", dict.fromkeys(vector_cache.TEXTS_PER_SAVE, 2))
    texts = make_texts("late", "parcel", "lovely", "broken", "fits")
    save, saves = vector_cache._save_file, []

    def killed_at_the_second_save(folder, hashes, embedded):
        saves.append(hashes)
        if len(saves) == 2:
            (folder / "half.partial").write_bytes(b"half a file")
            raise KeyboardInterrupt
        save(folder, hashes, embedded)

    monkeypatch.setattr(vector_cache, "_save_file", killed_at_the_second_save)
    with pytest.raises(KeyboardInterrupt):
        embed_new_texts(texts, None, SEED, lambda: tiny)
    monkeypatch.setattr(vector_cache, "_save_file", save)
    encoded.clear()
    table = embed_new_texts(texts, None, SEED, lambda: tiny)
    assert encoded == ["lovely", "broken", "fits"]
    assert table.num_rows == 5
    assert len(list((home() / "embeddings" / tiny.revision).glob("*.parquet"))) == 3


def test_a_complaint_scores_above_a_praise_of_the_same_aspect():
    encoder = Encoder(EncoderSettings(device="cpu", fidelity=1.0))
    described = encoder.encode(list(SEED.description))
    pairs = {
        "delivery": ("My parcel came three weeks late", "The parcel came a day early, great delivery"),
        "quality": ("The zip came off within a week", "Solid stitching, looks wonderful"),
        "price": ("So much dearer than last year, not buying again", "Really affordable, I paid almost nothing"),
        "service": ("The woman on the hotline shouted at me", "The hotline was patient and sorted everything out"),
        "returns": (
            "Far too small and I still have not got my money back",
            "True to size, swapping the colour was no trouble",
        ),
    }
    for aspect, (complaint, praise) in pairs.items():
        scores = aspect_scores(encoder.encode([complaint, praise]), SEED, described)
        assert scores[f"{aspect}_score"][0] > scores[f"{aspect}_score"][1] + 0.05
        assert scores["complaint_score"][0] > scores["complaint_score"][1]


def test_an_aspect_without_a_praise_is_refused_by_name(tiny):
    lacking = SEED[~((SEED.aspect == "price") & (SEED.polarity == "praise"))]
    with pytest.raises(ChurnRadarError, match="seed aspect_descriptions: no description of price praise"):
        embed_new_texts(make_texts("late"), None, lacking, lambda: tiny)


def test_the_seed_describes_every_aspect():
    assert set(SEED.aspect) == set(ASPECTS)
