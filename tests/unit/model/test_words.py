import numpy as np
import pandas as pd
import pytest
from builders import make_rows

from inference.model.churn_model import ChurnModel
from inference.model.words import WORDS_LOGIT, WordsModel, embedding_matrix, enough_words
from inference.training.train import MIN_GAIN_OF_WORDS, train
from inference.training.validation import gain_of_words

DIMENSION = 12


def with_texts(rows: pd.DataFrame, signal: float, seed: int = 0) -> pd.DataFrame:
    """Give two customers in three a text whose first dimension is shifted by the outcome times ``signal``."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(len(rows), DIMENSION)).astype(np.float32)
    matrix[:, 0] += signal * (rows.churned.fillna(0).to_numpy(dtype=float) - 0.5)
    wrote = rng.random(len(rows)) < 0.67
    return rows.assign(
        text_embedding=[vector if w else None for vector, w in zip(matrix, wrote, strict=True)],
        texts_60d=wrote.astype(int),
        encoder_revision=np.where(wrote, "abc", None),
    )


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n_customers=500, n_snapshots=6)


@pytest.fixture(scope="module")
def informative(rows) -> ChurnModel:
    return train(with_texts(rows, signal=3.0), horizon_days=30)


def test_words_that_tell_are_read_and_lower_the_loss(informative):
    assert informative.words is not None
    assert informative.encoder_revision == "abc"
    assert informative.features[-1] == WORDS_LOGIT
    assert informative.summary.words_gain["low"] > 0


def test_words_that_were_shuffled_between_customers_are_switched_off(rows):
    texts = with_texts(rows, signal=3.0)
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = texts.assign(text_embedding=texts.text_embedding.to_numpy()[order])
    model = train(shuffled, horizon_days=30)
    assert model.words is None
    assert WORDS_LOGIT not in model.features
    assert model.summary.words_gain["low"] <= 0


def test_a_shop_without_texts_is_trained_as_before(rows):
    model = train(rows, horizon_days=30)
    assert model.words is None
    assert model.summary.words_gain is None


def test_a_saved_model_reads_words_as_before(informative, rows, tmp_path):
    texts = with_texts(rows, signal=3.0).tail(100)
    informative.save(tmp_path)
    loaded = ChurnModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.logit(loaded.matrix(texts)), informative.logit(informative.matrix(texts)))


def test_customers_without_words_are_scored_and_words_move_the_score(informative, rows):
    customer = with_texts(rows, signal=3.0).tail(1)
    vector = np.zeros(DIMENSION, dtype=np.float32)
    texts = (vector - np.eye(DIMENSION, dtype=np.float32)[0] * 3, None, vector + np.eye(DIMENSION)[0] * 3)
    churn = [informative.logit(informative.matrix(customer.assign(text_embedding=[text])))[0] for text in texts]
    assert churn[0] < churn[1] < churn[2]


def test_no_row_is_predicted_by_a_model_that_knows_its_customer(monkeypatch):
    monkeypatch.setattr(WordsModel, "C", 100.0)
    rng = np.random.default_rng(0)
    # each customer has a vector and an outcome of their own: whoever learned from them knows both
    customers = np.repeat(np.arange(60), 10)
    embeddings = rng.normal(size=(60, 200))[customers]
    y = rng.integers(0, 2, 60)[customers]
    words = WordsModel()
    learned = words.fit_transform(embeddings, y, customers)
    in_sample = ((words.transform(embeddings) > 0) == y).mean()
    assert in_sample == 1.0
    assert 0.25 < ((learned > 0) == y).mean() < 0.75


def test_embeddings_are_stacked_with_nothing_where_nothing_was_written():
    rows = pd.DataFrame({"text_embedding": [np.array([1, 2], dtype=np.float32), None, [], [3.0, 4.0]]})
    np.testing.assert_array_equal(embedding_matrix(rows), [[1, 2], [np.nan] * 2, [np.nan] * 2, [3, 4]])
    assert embedding_matrix(rows[1:3]) is None
    assert embedding_matrix(pd.DataFrame({"other": [1]})) is None


def test_few_words_are_not_enough():
    matrix = np.zeros((400, 2))
    y = np.arange(400) % 2
    assert enough_words(matrix, y)
    assert not enough_words(matrix[:200], y[:200])
    assert not enough_words(matrix, np.zeros(400, dtype=int))
    assert not enough_words(None, y)


def test_a_gain_on_one_snapshot_is_not_earned():
    table = pd.DataFrame(
        {"customer_id": list("abcd"), "as_of_date": pd.Timestamp("2024-01-01"), "churned": [0, 1, 0, 1]}
    )
    without, with_words = table.assign(logistic=0.0), table.assign(logistic=[-3.0, 3.0, -3.0, 3.0])
    assert gain_of_words(without, with_words) is None
    twice = [
        pd.concat([t, t.assign(as_of_date=pd.Timestamp("2024-02-01"))], ignore_index=True)
        for t in (without, with_words)
    ]
    gain = gain_of_words(*twice)
    assert gain["mean"] == pytest.approx(np.log(2) - np.log1p(np.exp(-3)))
    assert gain["low"] <= gain["mean"] <= gain["high"]


@pytest.mark.parametrize(("low", "used"), [(MIN_GAIN_OF_WORDS * 0.99, False), (MIN_GAIN_OF_WORDS * 1.01, True)])
def test_embeddings_are_used_only_above_the_minimal_gain(monkeypatch, rows, low, used):
    gain = {"mean": 2 * low, "low": low, "high": 3 * low}
    monkeypatch.setattr("inference.training.train.gain_of_words", lambda without, with_words: gain)
    model = train(with_texts(rows, signal=3.0), 30)
    assert model.reads_words is used
    assert model.summary.words_gain == gain
