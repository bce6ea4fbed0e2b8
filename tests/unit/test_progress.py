from inference.progress import track


def test_every_item_comes_once_and_in_order() -> None:
    assert list(track([3, 1, 2], "Counting")) == [3, 1, 2]


def test_nothing_is_shown_where_there_is_no_terminal(capfd) -> None:
    list(track([1, 2], "Counting"))
    assert capfd.readouterr() == ("", "")
