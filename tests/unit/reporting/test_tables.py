from datetime import date

import numpy as np
import pandas as pd
import pytest

from inference.evaluation.metrics import evaluate
from inference.reporting.backtest import Backtest
from inference.reporting.tables import (
    PlainConsole,
    backtest_table,
    console,
    explanation_tables,
    model_table,
    record_table,
    rolling_table,
    scores_table,
    similar_table,
)
from inference.scoring.explain import Explanation


def shown(table) -> list[str]:
    console = PlainConsole(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def make_backtest(day: int, probability: list[float]) -> Backtest:
    churned = np.array([0, 0, 0, 1, 1])
    recency = evaluate(churned, np.full(5, 0.4), 0.5)
    return Backtest(date(2024, 1, day), evaluate(churned, np.array(probability), 0.5), recency, 10.0, 20.0, 100.0, 0.9)


GOOD = make_backtest(1, [0.1, 0.2, 0.3, 0.8, 0.9])
BAD = make_backtest(29, [0.9, 0.8, 0.7, 0.2, 0.1])


def test_a_backtest_shows_every_figure_beside_recency_alone():
    lines = shown(backtest_table([GOOD]))
    assert any("AUROC" in line and "1.0000" in line and "0.5000" in line for line in lines)
    assert any("absolute error of spend" in line and "10.00" in line and "20.00" in line for line in lines)
    assert any("AUROC below validation's by" in line and "-0.1000" in line for line in lines)


def test_several_backtests_show_their_mean():
    lines = shown(backtest_table([GOOD, BAD]))
    assert "Mean of 2 backtests, 2024-01-01 to 2024-01-29" in lines[0]
    assert any("AUROC" in line and "0.5000" in line for line in lines)
    assert any("absolute error of the level" in line for line in lines)


def test_rolling_backtests_have_a_line_each():
    lines = shown(rolling_table([GOOD, BAD]))
    assert sum("2024-01" in line for line in lines) == 2


def test_tables_fit_100_columns_with_long_reasons_and_huge_values():
    scores = pd.DataFrame(
        {
            "customer_id": ["customer-0000000000000000001"],
            "churn_probability": [0.999],
            "risk_band": ["critical"],
            "value_at_risk": [123456789.0],
            "reason_1": ["last order 400 days ago; usually every 30 " * 3],
            "reason_2": [None],
            "reason_3": [np.nan],
        }
    )
    lines = shown(scores_table(scores, "The 1 customer at highest risk"))
    assert max(map(len, lines)) <= 100
    assert "None" not in " ".join(lines)
    assert "nan" not in " ".join(lines)


def test_a_champion_without_validation_says_so():
    version = pd.Series(
        {
            "model_version": "1",
            "members": "logistic",
            "reads_words": False,
            "words_gain": np.nan,
            "lexical_gain": np.nan,
            "transformer_gain": np.nan,
            "training_rows": 60,
            "training_customers": 60,
            "first_snapshot": pd.Timestamp("2024-01-01"),
            "last_snapshot": pd.Timestamp("2024-01-01"),
            "validation_auroc": np.nan,
            "validation_log_loss": np.nan,
            "validation_ece": np.nan,
            "level_anchor": "latest_rate",
            "level_error": None,
            "reason": "there was no champion",
        }
    )
    text = " ".join(" ".join(shown(model_table(version))).replace("│", " ").split())
    assert text.count("not measured: too few snapshots") == 4


def test_similar_texts_are_shown_verbatim_within_100_columns():
    texts = pd.DataFrame(
        {
            "similarity": [0.8123],
            "kind": "ticket",
            "written_at": pd.Timestamp("2024-03-01 12:00"),
            "customer_id": "c1",
            "quote": "[bold]late[/bold] again, write to [e-mail] " + "and again " * 20,
        }
    )
    lines = shown(similar_table(texts, "Nearest to “[/red] late”"))
    assert "Nearest to “[/red] late”" in lines[0]
    assert max(len(line) for line in lines) <= 100
    assert any("0.81" in line and "ticket" in line and "2024-03-01" in line and "c1" in line for line in lines)
    assert any("[bold]late[/bold] again" in line for line in lines)


@pytest.mark.parametrize("words", ["good [/b]", "call [phone]", "[red]x", ":smile:", "\x1b[2J\x07", "\x9b2J", "a\rb"])
def test_what_customers_write_is_text_in_every_table(words):
    score = pd.Series(
        {
            "customer_id": words,
            "as_of_date": pd.Timestamp("2024-01-01"),
            "scored_at": pd.Timestamp("2024-01-01"),
            "model_version": "1",
            "churn_probability": 0.5,
            "transformer_probability": None,
            "boosting_probability": None,
            "logistic_probability": 0.5,
            "expected_spend": 1.0,
            "level_shift": 0.0,
            "reason_1": words,
            "reason_2": None,
            "reason_3": None,
            "risk_band": "high",
            "value_at_risk": 1.0,
            "features_hash": "f",
            "manifest_hash": "m",
        }
    )
    explanation = Explanation(score, score, pd.Series({"country": words}), "m")
    similar = pd.DataFrame([{"similarity": 1, "kind": "review", "written_at": score.as_of_date, "customer_id": words}])
    tables = [
        scores_table(pd.DataFrame([score]), words),
        similar_table(similar.assign(quote=words), words),
        record_table(score.to_dict(), f"Online: customer {words}"),
        *explanation_tables(explanation),
    ]
    escaped = words.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\x9b", "\\x9b").replace("\r", "\\x0d")
    for table in tables:
        lines = "\n".join(shown(table))
        assert escaped in lines
        assert not any(character in lines for character in "\x1b\x07\x9b\r")


def test_the_command_line_prints_by_such_a_console():
    assert isinstance(console(), PlainConsole)
