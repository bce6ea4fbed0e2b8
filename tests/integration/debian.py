"""Programs from Debian packages."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def debian_program(name: str, package: str, folders: str = "bin") -> str:
    """Path of a program. Its package is installed if this process is allowed to, otherwise the test is skipped.

    ``folders`` is a glob pattern of folders below the root that are searched besides ``PATH``.
    """
    path = _which(name, folders)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", package]):
            subprocess.run(command, capture_output=True, check=False)
        path = _which(name, folders)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return path


def _which(name: str, folders: str) -> str | None:
    others = sorted((str(folder) for folder in Path("/").glob(folders)), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *others]))
