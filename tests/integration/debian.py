"""Programs that come from packages of Debian."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def debian_program(name: str, package: str, folders: str = "bin") -> str:
    """Path of a program; its package is installed where this process may, and the test is skipped where it may not.

    ``folders`` is a pattern of folders, below the root, beside those of ``PATH``.
    """
    found = _which(name, folders)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", package]):
            subprocess.run(command, capture_output=True, check=False)
        found = _which(name, folders)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


def _which(name: str, folders: str) -> str | None:
    beside = sorted((str(folder) for folder in Path("/").glob(folders)), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *beside]))
