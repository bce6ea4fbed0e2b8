import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Sequences, read_sequences
from inference.scoring.quotes import quote_words
from inference.text.masking import MAX_QUOTE_CHARACTERS

AS_OF = pd.Timestamp("2024-05-10")


class CountingModel:
    """Log-odds: how often each word stands in a customer's texts, times its weight."""

    words = None

    def __init__(self, **weights: float) -> None:
        self.weights = weights
        self.calls = 0

    def logit(self, X: pd.DataFrame, sequences: Sequences) -> np.ndarray:
        assert len(X) == len(sequences)
        self.calls += 1
        read = [" ".join(sequences.words[i] for i in row if i >= 0).lower() for row in sequences.texts]
        return np.array([sum(w * text.count(word) for word, w in self.weights.items()) for text in read], dtype=float)


def make_rows(*customers: list[tuple[str, str, float]]) -> pd.DataFrame:
    """One row per customer with texts of (source, text, days ago), newest first."""
    rows = []
    for texts in customers:
        row = dict.fromkeys((*EVENT_COLUMNS, *TEXT_COLUMNS)) | {"as_of_date": AS_OF}
        if texts:
            row |= {
                "text_ids": [f"{source}:{i}" for i, (source, _, _) in enumerate(texts)],
                "texts": [text for _, text, _ in texts],
                "text_subjects": [""] * len(texts),
                "text_days_ago": [days_ago for _, _, days_ago in texts],
                "text_ratings": [0.0] * len(texts),
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=[*EVENT_COLUMNS, *TEXT_COLUMNS, "as_of_date"])


def quote(model: CountingModel, *customers: list[tuple[str, str, float]], direction: int | list[int] = 1) -> list:
    rows = make_rows(*customers)
    X = pd.DataFrame({"nothing": np.zeros(len(rows))})
    sequences = read_sequences(rows)
    return quote_words(
        model, rows, X, sequences, np.broadcast_to(direction, len(rows)), logit=model.logit(X, sequences)
    )


def quote_text(model: CountingModel, text: str, direction: int = 1) -> str | None:
    """The passage quoted from a customer's only review, of 3 May."""
    (quoted,) = quote(model, [("reviews", text, 7.0)], direction=direction)
    if quoted is None:
        return None
    assert quoted.startswith("review of 3 May: “")
    assert quoted.endswith("”")
    return quoted.removeprefix("review of 3 May: “").removesuffix("”")


class TestQuoting:
    def test_the_sentence_that_moves_the_score_is_quoted(self):
        text = "I bought a lamp. It arrived broken. The colour is nice."
        assert quote_text(CountingModel(broken=1.0), text) == "It arrived broken."

    def test_the_text_it_stands_in_is_named_by_source_and_day(self):
        quotes = quote(
            CountingModel(broken=1.0),
            [("reviews", "All is well.", 1.0), ("support_tickets", "Hello. It is broken!", 9.5)],
            [("reviews", "Broken again.", 40.0), ("support_tickets", "Where is it?", 70.0)],
        )
        # 9.5 days before the midnight that begins 10 May is noon on 30 April
        assert quotes == ["ticket of 30 April: “It is broken!”", "review of 31 March: “Broken again.”"]

    def test_direction_selects_what_raises_or_lowers_the_score(self):
        text = "It arrived broken. I love the colour."
        model = CountingModel(broken=1.0, love=-1.0)
        assert quote_text(model, text, direction=1) == "It arrived broken."
        assert quote_text(model, text, direction=-1) == "I love the colour."

    def test_each_customer_has_a_direction_of_their_own(self):
        texts = [("reviews", "It arrived broken. I love the colour.", 7.0)]
        quotes = quote(CountingModel(broken=1.0, love=-1.0), texts, texts, direction=[-1, 1])
        assert quotes == ["review of 3 May: “I love the colour.”", "review of 3 May: “It arrived broken.”"]

    def test_the_strongest_sentence_is_taken(self):
        text = "It is broken. Fine colour. Broken, and the new one broken too."
        assert quote_text(CountingModel(broken=1.0), text) == "Broken, and the new one broken too."

    def test_sentences_that_repeat_each_other_are_quoted_together(self):
        class AnyBroken(CountingModel):
            """The same log-odds for one sentence as for two."""

            def logit(self, X: pd.DataFrame, sequences: Sequences) -> np.ndarray:
                return np.minimum(super().logit(X, sequences), 1.0)

        assert quote_text(AnyBroken(broken=1.0), "Hello. It is broken. Broken!") == "Hello. It is broken. Broken!"

    def test_neighbours_with_the_same_effect_are_quoted_too(self):
        text = "A lamp. It is broken. The second was broken too. Nice colour."
        assert quote_text(CountingModel(broken=1.0), text) == "It is broken. The second was broken too."

    def test_nothing_is_quoted_where_no_sentence_moves_the_score(self):
        assert quote_text(CountingModel(broken=1.0), "All is well. Thank you.") is None

    def test_nothing_is_quoted_where_words_only_move_it_the_other_way(self):
        assert quote_text(CountingModel(broken=1.0), "It is broken. Bye.", direction=-1) is None

    def test_an_effect_too_small_to_matter_is_not_quoted(self):
        assert quote_text(CountingModel(broken=0.01), "It is broken. Bye.") is None
        assert quote_text(CountingModel(broken=0.03), "It is broken. Bye.") == "It is broken."

    def test_a_text_of_one_sentence_is_quoted_whole(self):
        assert quote_text(CountingModel(broken=1.0), "broken") == "broken"

    def test_a_customer_without_texts_is_not_quoted(self):
        model = CountingModel(broken=1.0)
        assert quote(model, []) == [None]
        assert quote(model, [], [("reviews", "It is broken.", 7.0)], []) == [
            None,
            "review of 3 May: “It is broken.”",
            None,
        ]

    def test_no_customers(self):
        assert quote(CountingModel(broken=1.0)) == []

    def test_an_empty_text_does_not_stop_it(self):
        quotes = quote(CountingModel(broken=1.0), [("reviews", "", 1.0), ("reviews", "<p></p>", 2.0)])
        assert quotes == [None]
        quotes = quote(CountingModel(broken=1.0), [("reviews", "", 1.0), ("reviews", "Broken.", 7.0)])
        assert quotes == ["review of 3 May: “Broken.”"]

    def test_a_long_sentence_is_cut_at_a_word(self):
        text = "broken " + "parcel " * 60
        quoted = quote_text(CountingModel(broken=1.0), text)
        assert quoted == "broken" + " parcel" * 21 + "…"
        assert len(quoted) <= MAX_QUOTE_CHARACTERS

    def test_a_long_sentence_without_spaces_is_cut_too(self):
        quoted = quote_text(CountingModel(**{"坏": 1.0}), "坏了" * 200)
        assert quoted.endswith("…")
        assert len(quoted) <= MAX_QUOTE_CHARACTERS + 1

    def test_neighbours_join_only_as_far_as_they_fit(self):
        text = "Broken, broken. " + "It was broken and nobody ever answered me about it. " * 6
        quoted = quote_text(CountingModel(broken=1.0), text)
        assert quoted.startswith("Broken, broken. It was broken")
        assert quoted.endswith("about it.")
        assert len(quoted) <= MAX_QUOTE_CHARACTERS

    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            ("Hi. It is broken, call 0171 1234567. Bye.", "It is broken, call [phone]."),
            ("Hi. Broken; mail anna@example.com! Bye.", "Broken;"),
            ("Hi. Broken, mail anna@example.com! Bye.", "Broken, mail [e-mail]!"),
            ("Hi. Order #4711 is broken. Bye.", "[order] is broken."),
            ("Hi. My order no. 4711 arrived broken. Bye.", "[order] arrived broken."),
        ],
    )
    def test_personal_data_in_a_quote_is_masked(self, text, quoted):
        passage = quote_text(CountingModel(broken=1.0), text)
        assert "4711" not in passage
        assert passage.removeprefix("My ") == quoted

    def test_the_model_runs_twice_for_any_number_of_customers(self):
        model = CountingModel(broken=1.0)
        quote(model, *[[("reviews", "It is broken. Bye.", float(i + 1))] for i in range(20)])
        assert model.calls == 2

    def test_the_same_text_of_two_customers_is_quoted_to_each_with_its_own_day(self):
        quotes = quote(
            CountingModel(broken=1.0),
            [("reviews", "It is broken.", 7.0)],
            [("support_tickets", "It is broken.", 1.0), ("reviews", "It is broken.", 8.0)],
        )
        assert quotes[0] == "review of 3 May: “It is broken.”"
        assert quotes[1] == "ticket of 9 May: “It is broken.”"


words = st.sampled_from(["broken", "late", "fine", "坏了", "😀", "19.99", "lamp"])
signs = st.sampled_from([" ", ". ", "! ", "? ", "。", "; ", "… "])
texts = st.lists(st.tuples(words, signs), max_size=40).map(lambda parts: "".join(a + b for a, b in parts))


@given(st.lists(st.lists(texts, max_size=4), min_size=1, max_size=3), st.sampled_from([1, -1]))
def test_a_quote_is_made_of_nothing_but_what_the_customer_wrote(customers, direction):
    rows = [[("reviews", text, float(i + 1)) for i, text in enumerate(texts)] for texts in customers]
    quotes = quote(CountingModel(broken=0.7, fine=-0.4, lamp=0.1), *rows, direction=direction)
    assert len(quotes) == len(customers)
    for quoted, own in zip(quotes, customers, strict=True):
        if quoted is not None:
            passage = quoted.partition("“")[2].removesuffix("”").removesuffix("…").strip()
            assert any(passage in " ".join(text.split()) for text in own)


@given(st.lists(st.lists(texts, max_size=4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_customers_does_not_matter(customers, random):
    rows = [[("reviews", text, float(i + 1)) for i, text in enumerate(texts)] for texts in customers]
    permuted = random.sample(range(len(rows)), len(rows))
    model = CountingModel(broken=0.7, fine=-0.4)
    quotes = quote(model, *rows)
    assert quote(model, *(rows[i] for i in permuted)) == [quotes[i] for i in permuted]
