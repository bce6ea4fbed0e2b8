from inference.warehouse import postgres


def test_values_are_escaped_for_libpq():
    assert postgres._escaped("o'neil\\x") == r"o\'neil\\x"
