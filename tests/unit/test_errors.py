import pickle

from inference.errors import ChurnRadarError


def test_the_message_is_one_line() -> None:
    assert str(ChurnRadarError("orders.amount:\n    expected numbers,\tgot text")) == (
        "orders.amount: expected numbers, got text"
    )


def test_it_survives_a_process_boundary() -> None:
    copied = pickle.loads(pickle.dumps(ChurnRadarError("orders: no such file")))
    assert isinstance(copied, ChurnRadarError)
    assert str(copied) == "orders: no such file"
