import re

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from inference.evaluation.segments import languages

ENGLISH = "The parcel came three weeks late and nobody answered my messages."
CHINESE = "价格涨了，质量却变差了。"


class TestLanguages:
    def codes(self, *texts: object) -> list:
        detected = languages(pd.DataFrame({"texts": pd.Series(texts, dtype=object)}))
        return [None if language is None else str(language) for language in detected]

    def test_english_and_chinese(self):
        assert self.codes([ENGLISH], np.array([CHINESE], dtype=object)) == ["en", "zh"]

    def test_short_chinese_is_chinese_whatever_variety_is_detected(self):
        assert self.codes(["尺码正好。"], ["物所有值！！"], ["很好"]) == ["zh"] * 3

    def test_a_text_that_is_too_short_has_no_language(self):
        odd = ["", "ok", "5/5", "好", "😀😀😀", "!" * 40, "1234567890 1234567890", "\x00", None]
        assert self.codes(*[[text] for text in odd]) == [None] * len(odd)

    def test_nobody_wrote(self):
        assert self.codes(None, np.nan, [], np.array([])) == [None] * 4
        assert languages(pd.DataFrame({"other": [1, 2]})).isna().all()

    def test_the_newest_text_that_is_long_enough_decides(self):
        assert self.codes(["ok", CHINESE, ENGLISH], [ENGLISH, CHINESE]) == ["zh", "en"]

    def test_a_mixed_text_has_the_language_of_its_larger_part(self):
        assert self.codes([f"{ENGLISH} 很好"], [f"{CHINESE}质量很差，再也不买了。ok"]) == ["en", "zh"]

    def test_a_rare_language_is_taken_for_an_error(self):
        french = "Bonjour, le colis est arrivé en retard et personne ne répond à mes messages."
        assert self.codes([french], [ENGLISH]) == ["fr", "en"]
        assert self.codes([french], *[[ENGLISH]] * 99) == [None, *["en"] * 99]

    @given(st.lists(st.lists(st.text(max_size=40), max_size=3) | st.none(), max_size=5))
    def test_any_texts_have_a_language_or_none(self, texts):
        codes = self.codes(*texts)
        assert len(codes) == len(texts)
        assert all(language is None or re.fullmatch("[a-z]{2,3}", language) for language in codes)
