"""Which tests are slow: those that run real commands, and the few others that say so themselves."""

from pathlib import Path

import pytest

SLOW_FOLDERS = ("integration", "web", "prove")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).relative_to(Path(__file__).parent).parts[0] in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
