"""Programs that come from packages of Debian."""

import os
import shutil
import subprocess

import pytest


def debian_program(name: str, package: str) -> str:
    """Path of a program; its package is installed where this process may, and the test is skipped where it may not."""
    if shutil.which(name) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", package]):
            subprocess.run(command, capture_output=True, check=False)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found
