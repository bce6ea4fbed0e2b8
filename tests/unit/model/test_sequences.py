import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model.sequences import (
    CATEGORY_BUCKETS,
    EVENT_COLUMNS,
    EVENT_TYPES,
    MAX_EVENTS,
    MAX_TEXTS,
    TEXT_COLUMNS,
    Sequences,
    has_sequences,
    read_sequences,
)

ORDER, VISIT, OTHER = 1, 4, 9
#: Buckets of subjects and categories: 1 + crc32 % 63, which no Python version and no hash seed changes.
LAMP, CHAIR, TOYS, BOOKS, KITCHEN = 63, 52, 21, 2, 12

Event = tuple[str, str, float, float]
Text = tuple[str, str, str, float, float]


def make_table(*customers: tuple[list[Event], list[Text]], as_list=list) -> pd.DataFrame:
    """One row per customer: events and texts, newest first, in the order of the columns; ``as_list`` wraps each."""
    columns: dict[str, list] = {name: [] for name in (*EVENT_COLUMNS, *TEXT_COLUMNS)}
    for events, texts in customers:
        for names, items in ((EVENT_COLUMNS, events), (TEXT_COLUMNS, texts)):
            for i, name in enumerate(names):
                columns[name].append(as_list([item[i] for item in items]) if items else None)
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def order(days_ago: float, amount: float = 10.0, category: str = "toys") -> Event:
    return ("order", category, days_ago, amount)


def review(text: str, days_ago: float = 1.0, stars: float = 4.0, subject: str = "lamp", number: int = 1) -> Text:
    return (f"reviews:r{number}", text, subject, days_ago, stars)


def texts_of(sequences: Sequences, row: int) -> list[tuple[str, int]]:
    """A customer's texts, each with the bucket of its subject."""
    pairs = zip(sequences.texts[row], sequences.text_subjects[row], strict=True)
    return [(sequences.words[i], int(subject)) for i, subject in pairs if i >= 0]


ANNA = ([order(2.0), ("visit", "", 5.0, 0.0), ("order", "books", 12.0, 3.0)], [review("late"), review("fine", 9.0)])
BERT = ([], [review("late", 3.0)])
CARL = ([order(1.0)], [])
NOBODY = ([], [])


class TestEvents:
    def test_they_stand_newest_first_and_are_padded_at_the_end(self):
        sequences = read_sequences(make_table(ANNA, CARL))
        assert sequences.event_types.shape == (2, MAX_EVENTS)
        assert sequences.event_types[0, :4].tolist() == [ORDER, VISIT, ORDER, 0]
        assert sequences.event_types[1, :2].tolist() == [ORDER, 0]
        assert not sequences.event_types[0, 3:].any()
        assert not sequences.event_numbers[0, 3:].any()

    def test_an_event_has_its_age_in_logs_of_days(self):
        ages = read_sequences(make_table(ANNA)).event_numbers[0, :3, 0]
        np.testing.assert_allclose(ages, np.log([3, 6, 13]), rtol=1e-6)

    def test_the_gap_is_to_the_event_before_and_the_oldest_has_none(self):
        # 2, 5 and 12 days ago: 3 days after the one before, 7 days after, the first known
        gaps = read_sequences(make_table(ANNA)).event_numbers[0, :3, 1]
        np.testing.assert_allclose(gaps, np.log([4, 8, 1]), rtol=1e-6)

    def test_the_gap_never_reaches_into_another_customer(self):
        sequences = read_sequences(
            make_table(([order(1.0)], []), ([order(50.0)], []), ([order(90.0), order(91.0)], []))
        )
        np.testing.assert_allclose(sequences.event_numbers[:, 0, 1], np.log([1, 1, 2]), rtol=1e-6)

    def test_the_amount_keeps_its_sign(self):
        paid, refunded, free = order(1.0, 99.0), ("returned", "", 2.0, -9.0), ("visit", "", 3.0, 0.0)
        amounts = read_sequences(make_table(([paid, refunded, free], []))).event_numbers[0, :3, 2]
        np.testing.assert_allclose(amounts, [np.log(100), -np.log(10), 0], rtol=1e-6)

    def test_every_known_kind_has_a_number_of_its_own(self):
        events = [(kind, "", float(i), 0.0) for i, kind in enumerate(EVENT_TYPES)]
        assert read_sequences(make_table((events, []))).event_types[0, :9].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]

    @pytest.mark.parametrize("kind", ["chargeback", "", "ORDER", None])
    def test_an_unknown_kind_counts_as_other(self, kind):
        assert read_sequences(make_table(([(kind, "", 1.0, 0.0)], []))).event_types[0, 0] == OTHER

    @pytest.mark.parametrize("category", ["", None])
    def test_no_category_is_bucket_zero(self, category):
        events = [order(1.0, category=category), order(2.0, category="toys")]
        buckets = read_sequences(make_table((events, []))).event_categories[0]
        assert buckets[0] == 0
        assert buckets[1] > 0

    def test_the_bucket_of_a_category_is_the_same_today_and_in_a_year(self):
        events = [order(1.0, category="toys"), order(2.0, category="books"), order(3.0, category="厨房")]
        assert read_sequences(make_table((events, []))).event_categories[0, :3].tolist() == [TOYS, BOOKS, KITCHEN]

    @given(st.text(min_size=1))
    def test_any_category_finds_a_bucket(self, category):
        bucket = read_sequences(make_table(([order(1.0, category=category)], []))).event_categories[0, 0]
        assert 0 < bucket < CATEGORY_BUCKETS

    def test_the_newest_are_kept_where_there_are_too_many(self):
        events = [order(float(day)) for day in range(MAX_EVENTS + 5)]
        sequences = read_sequences(make_table((events, []), CARL))
        np.testing.assert_allclose(np.expm1(sequences.event_numbers[0, :, 0]), np.arange(MAX_EVENTS), atol=1e-4)
        assert sequences.event_types[1, :2].tolist() == [ORDER, 0]


class TestTexts:
    def test_they_stand_newest_first_and_are_padded_at_the_end(self):
        sequences = read_sequences(make_table(ANNA, CARL))
        assert sequences.texts.shape == (2, MAX_TEXTS)
        assert texts_of(sequences, 0) == [("late", LAMP), ("fine", LAMP)]
        assert sequences.texts[0, 2:].tolist() == [-1, -1]
        assert sequences.texts[1].tolist() == [-1] * MAX_TEXTS
        assert sequences.wrote.tolist() == [True, False]
        np.testing.assert_allclose(sequences.text_numbers[0, :, 0], [np.log(2), np.log(10), 0, 0], rtol=1e-6)

    def test_the_same_text_is_kept_once(self):
        sequences = read_sequences(make_table(ANNA, BERT))
        assert sequences.texts[0, 0] == sequences.texts[1, 0]
        assert len(sequences.words) == 2

    def test_texts_that_only_mark_up_tells_apart_are_the_same(self):
        sequences = read_sequences(make_table(([], [review("<p>late</p>\n"), review("late", 2.0)])))
        assert sequences.words == ["late"]

    def test_the_subject_tells_texts_apart_that_say_the_same(self):
        texts = [review("late", subject="lamp"), review("late", 2.0, subject="chair")]
        sequences = read_sequences(make_table(([], texts)))
        assert texts_of(sequences, 0) == [("late", LAMP), ("late", CHAIR)]
        assert sequences.words == ["late"]

    @pytest.mark.parametrize("subject", ["", None])
    def test_no_subject_is_bucket_zero(self, subject):
        texts = [review("late", subject=subject), review("fine", 2.0)]
        assert texts_of(read_sequences(make_table(([], texts))), 0) == [("late", 0), ("fine", LAMP)]

    def test_stars_go_from_minus_one_to_one_and_none_is_said_to_be_none(self):
        texts = [review("bad", stars=1.0), review("so so", 2.0, 3.0), review("good", 3.0, 5.0), review("?", 4.0, 0.0)]
        numbers = read_sequences(make_table(([], texts))).text_numbers[0]
        assert numbers[:, 1].tolist() == [-1, 0, 1, 0]
        assert numbers[:, 2].tolist() == [1, 1, 1, 0]

    def test_tickets_are_flagged(self):
        ticket = ("support_tickets:t1", "where is it", "delivery", 1.0, 0.0)
        assert read_sequences(make_table(([], [ticket, review("fine", 2.0)]))).text_numbers[0, :, 3].tolist() == [
            1,
            0,
            0,
            0,
        ]

    def test_the_newest_are_kept_where_there_are_too_many(self):
        texts = [review(f"text {i}", float(i)) for i in range(MAX_TEXTS + 3)]
        sequences = read_sequences(make_table(([], texts), BERT))
        assert [text for text, _ in texts_of(sequences, 0)] == ["text 0", "text 1", "text 2", "text 3"]
        assert texts_of(sequences, 1) == [("late", LAMP)]
        assert "text 4" not in sequences.words

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "😀😀😀",
            "<p>Hello <b>world</b></p>",
            "word " * 20_000,
            "\x00\x01\xff\ufffd\ud800",
            "late 很晚 tarde 遅い",
        ],
        ids=["empty", "emoji", "HTML", "100,000 characters", "binary", "mixed languages"],
    )
    def test_nasty_texts_do_not_stop_it(self, text):
        sequences = read_sequences(make_table(([], [review(text), review("fine", 2.0)]), CARL))
        assert len(texts_of(sequences, 0)) == 2
        assert texts_of(sequences, 0)[1] == ("fine", LAMP)
        assert np.isfinite(sequences.text_numbers).all()


class TestNothing:
    @pytest.mark.parametrize(
        "nothing", [None, np.nan, pd.NA, [], np.array([])], ids=["None", "NaN", "NA", "list", "array"]
    )
    def test_null_and_empty_are_nothing(self, nothing):
        table = make_table(ANNA, NOBODY)
        table[list(table)] = table.apply(lambda column: [column[0], nothing]).astype(object)
        assert_same(read_sequences(table), read_sequences(make_table(ANNA, NOBODY)))

    def test_lists_and_arrays_are_the_same(self):
        assert_same(read_sequences(make_table(ANNA, BERT, as_list=np.array)), read_sequences(make_table(ANNA, BERT)))

    def test_a_parquet_file_gives_back_the_same(self, tmp_path):
        table = make_table(ANNA, NOBODY, BERT)
        table.to_parquet(tmp_path / "sequences.parquet")
        assert_same(read_sequences(pd.read_parquet(tmp_path / "sequences.parquet")), read_sequences(table))

    def test_nobody_did_anything(self):
        sequences = read_sequences(make_table(NOBODY, NOBODY))
        assert len(sequences) == 2
        assert sequences.words == []
        assert not sequences.wrote.any()
        assert not sequences.event_types.any()

    def test_there_are_no_rows(self):
        sequences = read_sequences(make_table())
        assert len(sequences) == 0
        assert sequences.event_types.shape == (0, MAX_EVENTS)
        assert sequences.texts.shape == (0, MAX_TEXTS)

    def test_a_missing_column_is_noticed(self):
        table = make_table(ANNA)
        assert has_sequences(table)
        assert not has_sequences(table.drop(columns="text_ratings"))


class TestChanging:
    @pytest.fixture
    def sequences(self) -> Sequences:
        return read_sequences(make_table(ANNA, BERT, CARL))

    @pytest.mark.parametrize("rows", [[2, 0], np.array([2, 0])], ids=["list", "array"])
    def test_taking_some_is_reading_some(self, sequences, rows):
        assert_same(sequences.take(np.array(rows)), read_sequences(make_table(CARL, ANNA)))

    def test_rows_are_taken_by_mask(self, sequences):
        assert_same(sequences.take(np.array([True, False, True])), read_sequences(make_table(ANNA, CARL)))

    def test_without_texts_nobody_has_written(self, sequences):
        silent = sequences.without_texts()
        assert not silent.wrote.any()
        np.testing.assert_array_equal(silent.event_types, sequences.event_types)
        assert sequences.wrote.tolist() == [True, True, False]

    def test_without_events_nothing_has_happened(self, sequences):
        idle = sequences.without_events()
        assert not idle.event_types.any()
        np.testing.assert_array_equal(idle.texts, sequences.texts)
        assert sequences.event_types.any()

    def test_shuffled_words_keep_who_wrote_when_and_every_text(self, sequences):
        shuffled = [sequences.with_shuffled_words(seed) for seed in range(20)]
        written = sequences.texts >= 0
        for control in shuffled:
            np.testing.assert_array_equal(control.texts >= 0, written)
            assert sorted(control.texts[written]) == sorted(sequences.texts[written])
            np.testing.assert_array_equal(control.text_numbers, sequences.text_numbers)
        assert any((control.texts != sequences.texts).any() for control in shuffled)


def assert_same(one: Sequences, other: Sequences) -> None:
    """The same events and texts of the same customers, wherever the texts stand in ``words``."""
    np.testing.assert_array_equal(one.event_types, other.event_types)
    np.testing.assert_array_equal(one.event_categories, other.event_categories)
    np.testing.assert_array_equal(one.event_numbers, other.event_numbers)
    np.testing.assert_array_equal(one.text_numbers, other.text_numbers)
    np.testing.assert_array_equal(one.texts >= 0, other.texts >= 0)
    np.testing.assert_array_equal(one.text_subjects, other.text_subjects)
    assert [texts_of(one, row) for row in range(len(one))] == [texts_of(other, row) for row in range(len(other))]


events = st.tuples(
    st.sampled_from([*EVENT_TYPES, "unheard of"]),
    st.sampled_from(["", "toys", "books"]),
    st.floats(0, 180, width=32),
    st.floats(-500, 500, width=32),
)
texts = st.tuples(
    st.sampled_from(["reviews:r1", "support_tickets:t1"]),
    st.sampled_from(["late", "fine", "", "😀"]),
    st.sampled_from(["", "lamp"]),
    st.floats(0, 180, width=32),
    st.sampled_from([0.0, 1.0, 5.0]),
)


def newest_first(items: list[tuple], days: int) -> list[tuple]:
    return sorted(items, key=lambda item: item[days])


customers = st.lists(
    st.tuples(
        st.lists(events, max_size=6).map(lambda items: newest_first(items, 2)),
        st.lists(texts, max_size=6).map(lambda items: newest_first(items, 3)),
    ),
    min_size=1,
    max_size=8,
)


@given(customers, st.randoms(use_true_random=False))
def test_the_order_of_customers_does_not_matter(customers, random):
    permuted = random.sample(range(len(customers)), len(customers))
    read = read_sequences(make_table(*(customers[i] for i in permuted)))
    assert_same(read, read_sequences(make_table(*customers)).take(np.array(permuted)))


@given(customers)
def test_a_customer_is_read_alone_as_among_others(customers):
    together = read_sequences(make_table(*customers))
    for row, customer in enumerate(customers):
        assert_same(together.take(np.array([row])), read_sequences(make_table(customer)))


@given(customers)
def test_no_number_is_infinite_or_missing_and_gaps_are_not_negative(customers):
    sequences = read_sequences(make_table(*customers))
    assert np.isfinite(sequences.event_numbers).all()
    assert np.isfinite(sequences.text_numbers).all()
    assert (sequences.event_numbers[..., 1] >= 0).all()
