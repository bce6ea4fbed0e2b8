"""dbt's parse of the project, made once in a process and given to every home: it takes longer than most commands.

dbt reads a ``partial_parse.msgpack`` again if it fits the vars and the profile, and parses files that differ from it.
"""

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pprint import pformat
from unittest.mock import patch

import msgpack
import yaml
from dbt.artifacts.resources import FileHash
from dbt.config.runtime import load_profile
from dbt.flags import set_from_args
from dbt.version import __version__
from dbt_common.context import set_invocation_context

#: Vars that no parsed node depends on: the SQL of a model is compiled when it runs.
COMPILED = ("churn__as_of_date", "churn__max_row_drop")
#: By project, profile and vars: a home, and what dbt wrote there.
parsed: dict[str, tuple[str, dict]] = {}


def hashes(project: Path, env: Mapping[str, str], variables: Mapping) -> dict[str, dict]:
    """Hashes by which dbt recognises the vars and the profile that it parsed for."""
    with patch.dict(os.environ, env):
        set_invocation_context(os.environ)
        set_from_args(Namespace(PROFILES_DIR=env.get("DBT_PROFILES_DIR", str(project))), None)
        profile = load_profile(str(project), dict(variables))
    texts = {
        "vars_hash": "\0".join([pformat(variables), "", "", __version__]),
        "profile_hash": pformat(sorted(profile.credentials.connection_info())),
    }
    return {name: FileHash.from_contents(text).to_dict() for name, text in texts.items()}


def moved(value: object, old: str, new: str) -> object:
    """A copy with another home in every string."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {name: moved(item, old, new) for name, item in value.items()}
    return [moved(item, old, new) for item in value] if isinstance(value, list) else value


@contextmanager
def shared(home: Path, project: Path, env: Mapping[str, str], command: Sequence[str]) -> Iterator[None]:
    """Before a dbt command, give a home what dbt parsed for another one; after it, keep what dbt parsed, for the next.

    Only for the default target and project folder, which the hashes are of.
    """
    if command[0] != "dbt" or "DBT_TARGET" in env or {"--target", "--target-path"} & set(command):
        yield
        return
    variables = yaml.safe_load(command[command.index("--vars") + 1]) if "--vars" in command else {}
    at_parsing = {name: value for name, value in variables.items() if name not in COMPILED}
    name = pformat((str(project), env.get("DBT_PROFILES_DIR"), at_parsing))
    file = home / "target" / "partial_parse.msgpack"
    if known := parsed.get(name):
        state = moved(known[1], known[0], str(home))
        state["state_check"] |= hashes(project, env, variables)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgpack.packb(state))
    yield
    if name not in parsed and file.exists():
        state = msgpack.unpackb(file.read_bytes())
        if hashes(project, env, variables).items() <= state["state_check"].items():
            parsed[name] = (str(home), state)
