"""For all tests: one thread a process, and which tests are slow: those that run real commands."""

import os

# Two workers share two cores: threads that wait for others spin, and take the time of those who work, for minutes.
# Set before any library reads it; the commands that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest

SLOW_FOLDERS = ("integration", "web", "prove")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).relative_to(Path(__file__).parent).parts[0] in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
