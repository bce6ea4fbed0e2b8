from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.text.sentences import sentences


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
