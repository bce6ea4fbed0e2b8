"""Running dbt, as a user would, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.home import PROJECT_DIR

#: The command, of the environment that this package is installed in.
DBT = str(Path(sys.executable).with_name("dbt"))


def environment(state: Path) -> dict[str, str]:
    """Environment variables of a shop that lies in a folder of its own: raw tables, warehouse and dbt's output."""
    return {
        "CHURN_HOME": str(state),
        "CHURN_RAW_DIR": str(state / "raw"),
        "DBT_TARGET_PATH": str(state / "target"),
        "DBT_LOG_PATH": str(state / "logs"),
        "DBT_TARGET": "duckdb",
    }


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a dbt command in the project; the caller reads its output."""
    return subprocess.Popen([DBT, *arguments], cwd=PROJECT_DIR, stdout=subprocess.PIPE, text=True)


def run(
    *arguments: str,
    variables: Mapping | None = None,
    env: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> None:
    """Run a dbt command in the project; ChurnRadarError if it fails.

    Parameters
    ----------
    *arguments : str
        Command and options, such as ``build``.
    variables : mapping, optional
        dbt vars.
    env : mapping, optional
        Environment variables beside those of this process.
    quiet : bool
        Show nothing unless dbt fails.
    """
    command = [DBT, *(["--quiet"] if quiet else []), *arguments]
    if variables:
        command += ["--vars", json.dumps(dict(variables), default=str)]  # YAML has dates, JSON has none
    done = subprocess.run(
        command,
        cwd=PROJECT_DIR,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
        close_fds=False,  # it shares this process's lock of the home, also when this process is killed
    )
    if done.returncode:
        if quiet:
            sys.stderr.write(done.stdout)
        raise ChurnRadarError(f"dbt {arguments[0]} failed; its output above says why")
