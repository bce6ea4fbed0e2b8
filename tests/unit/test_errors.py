import pickle
import traceback

import pytest

from inference.errors import ChurnRadarError


def test_the_message_is_one_line() -> None:
    assert str(ChurnRadarError("orders.amount:\n    expected numbers,\tgot text")) == (
        "orders.amount: expected numbers, got text"
    )


def test_no_traceback_is_printed_however_deep_it_was_raised() -> None:
    def deep() -> None:
        raise ChurnRadarError("orders: no such file")

    with pytest.raises(ChurnRadarError) as caught:
        deep()
    printed = traceback.format_exception(caught.value)
    assert printed == ["inference.errors.ChurnRadarError: orders: no such file\n"]


def test_neither_is_that_of_an_error_it_stands_for() -> None:
    def read() -> None:
        try:
            raise KeyError("amount")
        except KeyError:
            raise ChurnRadarError("orders: no column amount") from None

    with pytest.raises(ChurnRadarError) as caught:
        read()
    assert "".join(traceback.format_exception(caught.value)).count("\n") == 1


def test_it_survives_a_process_boundary() -> None:
    copied = pickle.loads(pickle.dumps(ChurnRadarError("orders: no such file")))
    assert isinstance(copied, ChurnRadarError)
    assert str(copied) == "orders: no such file"
