import pandas as pd

from inference.text.masking import MAX_SHOWN_CHARACTERS, masked_quotes, shorten


def test_a_short_text_stays_whole_and_a_long_one_is_cut_at_a_word():
    assert shorten("came late", 9) == "came late"
    assert shorten("came late again", 12) == "came late…"


def test_a_mask_is_never_cut_in_two():
    for length in range(5, 30):
        shortened = shorten("call me at [phone] or [e-mail] today", length)
        assert shortened.count("[") == shortened.count("]")


def test_a_quote_has_no_personal_data_and_no_mark_up_and_is_short():
    texts = pd.DataFrame(
        {
            "text_id": ["a", "b", "c", "d"],
            "text": [
                "<p>Late &amp; broken,\x00 write to anna@example.com</p>",
                "",
                "word " * 20_000,
                "x" * MAX_SHOWN_CHARACTERS + " " + "anna@example.com",
            ],
        }
    )
    quotes = masked_quotes(texts).to_pandas().set_index("text_id").quote
    assert quotes["a"] == "Late & broken, write to [e-mail]"
    assert quotes["b"] == ""
    assert quotes.str.len().max() <= MAX_SHOWN_CHARACTERS + 1
    assert "anna" not in quotes["d"]
    assert masked_quotes(texts.head(0)).num_rows == 0


def test_only_new_and_changed_texts_are_quoted_again():
    texts = pd.DataFrame({"text_id": ["a", "b"], "text": ["came late", "broken"]})
    built = masked_quotes(texts).to_pandas()[["text_id", "text_hash"]]
    assert masked_quotes(texts, built).num_rows == 0
    assert masked_quotes(texts.head(0), built).num_rows == masked_quotes(texts.head(0), built.head(0)).num_rows == 0
    changed = pd.DataFrame({"text_id": ["a", "b", "c"], "text": ["came late", "whole", "new"]})
    assert masked_quotes(changed, built)["text_id"].to_pylist() == ["b", "c"]
