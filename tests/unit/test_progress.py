import logging
import time

import pytest

from inference import progress
from inference.progress import track


def test_every_item_comes_once_and_in_order() -> None:
    assert list(track([3, 1, 2], "Counting")) == [3, 1, 2]


def test_nothing_is_shown_of_short_work_where_there_is_no_terminal(capfd) -> None:
    list(track([1, 2], "Counting"))
    assert capfd.readouterr() == ("", "")


def test_long_work_is_logged_where_there_is_no_terminal(monkeypatch, caplog) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE", 0.05)
    monkeypatch.setattr(progress, "LINES", 0.1)
    monkeypatch.setattr(logging.getLogger("inference"), "propagate", True)
    caplog.set_level(logging.INFO, "inference")
    for number in track(iter(range(2)), "Counting", completed=1, total=3):
        time.sleep(0.3 if number == 0 else 0.5)
    assert caplog.messages[0] == "Counting: 1 of 3"
    assert caplog.messages[-1].startswith("Counting: 2 of 3, about ")
    n_lines = len(caplog.messages)
    assert n_lines > 3
    time.sleep(0.2)
    assert len(caplog.messages) == n_lines


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (7200, "120 min")])
def test_durations_are_short(seconds, text) -> None:
    assert progress._duration(seconds) == text
