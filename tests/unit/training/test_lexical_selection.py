"""Whether single words join the score."""

import numpy as np
import pandas as pd
import pytest
from builders import make_rows

from inference.model.churn_model import ChurnModel
from inference.model.lexical import LEXICAL
from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS
from inference.training.settings import TrainingSettings
from inference.training.train import train

SETTINGS = TrainingSettings(transformer=None)
FILLERS = ["box", "parcel", "shop", "tea", "thanks", "today"]


def with_texts(rows: pd.DataFrame, tells: bool, wrote: float = 0.8) -> pd.DataFrame:
    """Give customers a review: where it tells, with "never" of most who left, and "always" of most who stayed."""
    rng = np.random.default_rng(1)
    left = (rows.churned == 1) if tells else rng.random(len(rows)) < 0.5
    told = np.where(rng.random(len(rows)) < 0.8, left, ~left)
    texts = [" ".join([*rng.choice(FILLERS, 2), "never" if t else "always"]) for t in told]
    has_text = rng.random(len(rows)) < wrote
    values = {"text_ids": "reviews:1", "text_subjects": "", "text_days_ago": 2.0, "text_ratings": 0.0}
    columns = {name: [[value] if has else None for has in has_text] for name, value in values.items()}
    columns["texts"] = [[text] if has else None for text, has in zip(texts, has_text, strict=True)]
    return rows.assign(**dict.fromkeys(EVENT_COLUMNS), **{name: columns[name] for name in TEXT_COLUMNS})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows(n_customers=200, n_snapshots=7)


@pytest.fixture(scope="module")
def model(rows) -> ChurnModel:
    return train(with_texts(rows, tells=True), 30, SETTINGS)


def test_words_that_tell_are_read(model):
    assert model.lexical is not None
    assert model.summary.lexical_gain["low"] > 0.05
    assert (model.reads_words, model.reads_embeddings, model.encoder_revision) == (True, False, None)
    words = [word for word, _ in model.lexical.strongest(1)]
    assert (words[0], words[-1]) == ("never", "always")


def test_the_validation_is_that_of_the_score(model):
    validation = model.validation
    with_words = validation[model.names].mean(axis=1)
    assert 0.3 < (with_words - validation.without_words).abs().mean() < 2
    assert validation.churned.corr(with_words) > validation.churned.corr(validation.without_words) + 0.03


def test_parts_add_up(model, rows):
    newest = with_texts(rows, tells=True).tail(200)
    X, sequences = model.inputs(newest)
    contributions = model.contributions(X, sequences)
    rest = model.logit(X, sequences) - contributions.sum(axis=1).to_numpy()
    np.testing.assert_allclose(rest, rest[0], atol=1e-9)  # the base value
    silent = newest.texts.isna().to_numpy()
    assert (contributions[LEXICAL][silent] == 0).all()
    assert (contributions[LEXICAL][~silent] != 0).all()


def test_a_saved_model_reads_words_as_before(model, rows, tmp_path):
    newest = with_texts(rows, tells=True).tail(200)
    model.save(tmp_path)
    loaded = ChurnModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.logit(*loaded.inputs(newest)), model.logit(*model.inputs(newest)))


def test_words_that_say_nothing_are_left_out(rows):
    model = train(with_texts(rows, tells=False), 30, SETTINGS)
    assert model.lexical is None
    assert model.summary.lexical_gain["low"] <= 0
    assert not model.reads_words


def test_few_texts_are_not_tried(rows):
    model = train(with_texts(rows, tells=True, wrote=0.05), 30, SETTINGS)
    assert (model.lexical, model.summary.lexical_gain) == (None, None)
