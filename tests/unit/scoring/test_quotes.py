import re
import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model.sequences import EVENT_COLUMNS, TEXT_COLUMNS, Sequences, read_sequences
from inference.scoring.quotes import MAX_QUOTE_CHARACTERS, mask, quote_words, sentences
from inference.text.masking import PERSONAL_DATA, SUSPECT

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


class TestMasking:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("write to anna.b+shop@mail.example.co.uk please", "write to [e-mail] please"),
            ("I am anna_b@example.com.", "I am [e-mail]."),
            ("call +49 30 1234567 now", "call [phone] now"),
            ("call +49 (0)30 1234567 now", "call [phone] now"),
            ("call (020) 7946 0958 now", "call [phone] now"),
            ("call +1-555-123-4567 now", "call [phone] now"),
            ("call 555.123.4567 now", "call [phone] now"),
            ("call 0171/1234567 now", "call [phone] now"),
            ("call 06 12 34 56 78 now", "call [phone] now"),
            ("call 06.12.34.56.78 now", "call [phone] now"),
            ("call 06/12/34/56/78 now", "call [phone] now"),
            ("call 555.123-4567 now", "call [phone] now"),
            ("call +86 138 0013 8000 now", "call [phone] now"),
            ("电话：138 0013 8000。", "电话：[phone]。"),
            ("my card 4111 1111 1111 1111, twice", "my card [card], twice"),
            ("my card 4111-1111-1111-1111, twice", "my card [card], twice"),
            ("my card 4111111111111111, twice", "my card [card], twice"),
            ("my card 4111 1111 1111 1111 was charged", "my card [card] was charged"),
            ("to GB82 WEST 1234 5698 7654 32 please", "to [account] please"),
            ("to DE89370400440532013000 please", "to [account] please"),
            ("my order #12345 is late", "my [order] is late"),
            ("Order number: AB-99812 is late", "[order] is late"),
            ("Order No. 4711 is late", "[order] is late"),
            ("单号：123456 还没到", "[order] 还没到"),
            ("我的订单号：1234，还没到", "我的[order]，还没到"),
            ("电话138 0013 8000", "电话[phone]"),
            ("卡号4111 1111 1111 1111", "卡号[card]"),
            ("请联系anna@example.com，谢谢", "请联系[e-mail]，谢谢"),
            ("see https://example.com/a?b=1 or www.example.com/x", "see [link] or [link]"),
            ("customer 12345678901 here", "customer [phone] here"),
        ],
    )
    def test_personal_data_is_replaced_by_its_kind(self, text, masked):
        assert mask(text) == masked

    @pytest.mark.parametrize(
        "text",
        [
            "it cost $19.99",
            "EUR 1,299.00 is a lot",
            "1.299,00 € is a lot",
            "bought on 2025-05-03",
            "bought on 03.05.2025",
            "bought on 3/5/2025",
            "bought on 2025/05/03",
            "bought on 3 May 2025",
            "in the season 2024/2025",
            "bought between 2024-2025",
            "booked 2025-05-03 12:30, came 03.05.2025 - 07.05.2025",
            "from 12.99 - 14.99 now",
            "size 42, or 180 x 200 cm",
            "sizes 36 38 40 are gone",
            "after 12 days",
            "3 times",
            "100 percent",
            "24/7 and 9.5/10",
            "ordered 100 of them",
            "I would order 100 times again",
            "in case 3rd parties ask",
            "a WD-40, again",
            "an email @ home",
        ],
    )
    def test_ordinary_numbers_stay(self, text):
        assert mask(text) == text

    @given(st.text(st.sampled_from("0123456789 -./()+#@:aAorder单号٣３"), max_size=60))
    def test_no_long_run_of_digits_survives(self, text):
        assert not re.search(r"\d{5,}", mask(text))

    @given(st.from_regex(r"[a-z]{1,8}[.+-]?[a-z]{1,5}@[a-z]{1,8}\.[a-z]{2,3}", fullmatch=True))
    def test_no_e_mail_address_survives(self, address):
        assert mask(f"write to {address} today") == "write to [e-mail] today"

    @pytest.mark.parametrize(
        "pattern", [pattern for pattern, _ in PERSONAL_DATA], ids=[mask for _, mask in PERSONAL_DATA]
    )
    @given(data=st.data())
    def test_a_text_with_anything_to_mask_is_never_passed_over(self, pattern, data):
        text = pattern.search(data.draw(st.from_regex(pattern))).group()
        assert SUSPECT.search(text)

    @given(st.text(max_size=200))
    def test_masking_is_idempotent(self, text):
        assert mask(mask(text)) == mask(text)

    @pytest.mark.parametrize("part", ["a", "1-", "a.", "x@a-", "1 ", "AB12 ", "order "])
    def test_a_text_of_two_thousand_characters_takes_no_time(self, part):
        # the table holds no longer ones
        started = time.perf_counter()
        mask((part * 2000)[:2000])
        assert time.perf_counter() - started < 1


class TestSentences:
    def split(self, text: str) -> list[str]:
        return [text[start:end] for start, end in sentences(text)]

    def test_english_is_split_at_its_signs(self):
        text = "It came late. Nobody answered!! Why? I wait…  still; no more"
        assert self.split(text) == ["It came late.", "Nobody answered!!", "Why?", "I wait…", "still;", "no more"]

    def test_chinese_is_split_without_spaces(self):
        assert self.split("坏了。没人回答！为什么？再也不买") == ["坏了。", "没人回答！", "为什么？", "再也不买"]

    def test_prices_and_versions_hold_together(self):
        assert self.split("It cost 19.99 at shop.com. Fine.") == ["It cost 19.99 at shop.com.", "Fine."]

    @pytest.mark.parametrize("text", ["", "   "])
    def test_an_empty_text_has_none(self, text):
        assert sentences(text) == []

    @given(st.text(st.sampled_from("ab .!?。！…;  \t"), max_size=60))
    def test_together_they_hold_every_word_of_the_text_in_order(self, text):
        spans = sentences(text)
        for start, end in spans:
            assert text[start:end].strip() == text[start:end] != ""
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())


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

    def test_a_mask_is_never_cut_in_two(self):
        for length in range(MAX_QUOTE_CHARACTERS - 12, MAX_QUOTE_CHARACTERS + 2):
            quoted = quote_text(CountingModel(**{"坏": 1.0}), "坏" * length + "，a@b.com，" + "了" * 20)
            assert quoted.count("[") == quoted.count("]")

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
