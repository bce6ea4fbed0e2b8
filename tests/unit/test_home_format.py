import json
import re
import stat
from importlib.metadata import version
from pathlib import Path

import pytest
from dbt_common.exceptions import DbtRuntimeError
from typer.testing import CliRunner

from inference import cli
from inference.errors import ChurnRadarError
from inference.feature_store.client import open_store
from inference.feature_store.stores import prepare_home
from inference.home_format import FORMAT, VERSION_FILE, make_home, read_format
from inference.warehouse.plugin import prepare


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_new_home_is_closed_to_others_and_notes_its_format(churn_home):
    make_home()
    assert mode(churn_home) == 0o700
    assert read_format(churn_home) == {"format": FORMAT, "churn_radar": version("churn-radar")}


def test_a_folder_with_raw_tables_becomes_a_closed_home(churn_home):
    (churn_home / "raw").mkdir(parents=True)
    churn_home.chmod(0o755)
    make_home()
    assert mode(churn_home) == 0o700


def test_a_home_keeps_the_mode_that_its_owner_set(churn_home):
    (churn_home / "features").mkdir(parents=True)  # of a version before there was a format
    for chosen in (0o755, 0o750):
        churn_home.chmod(chosen)
        make_home()
        assert mode(churn_home) == chosen


def test_the_file_is_written_again_by_another_version_alone(churn_home):
    make_home()
    file = churn_home / VERSION_FILE
    first = file.stat().st_ino
    make_home()
    assert file.stat().st_ino == first
    file.write_text(json.dumps({"format": FORMAT, "churn_radar": "0.0.1"}))
    make_home()
    assert read_format(churn_home)["churn_radar"] == version("churn-radar")


def test_simulated_tables_make_a_closed_home(churn_home):
    done = CliRunner().invoke(cli.app, ["simulate", "--customers", "20", "--days", "60"])
    assert done.exit_code == 0
    assert mode(churn_home) == 0o700
    assert read_format(churn_home)["format"] == FORMAT


def test_feast_makes_a_closed_home(churn_home):
    open_store()
    assert mode(churn_home) == 0o700


@pytest.fixture
def newer(churn_home) -> str:
    churn_home.mkdir()
    (churn_home / VERSION_FILE).write_text(json.dumps({"format": FORMAT + 1, "churn_radar": "9.9"}))
    return (
        f"{churn_home}: written by Churn Radar 9.9 in format {FORMAT + 1}, and Churn Radar {version('churn-radar')} "
        f"reads format {FORMAT}; expected that version or a later one"
    )


COMMANDS = {
    "load-example": ["complete-journey"],
    "simulate": [],
    "report": [],
    "rollback": [],
    "explain": ["c1"],
    "similar": ["late"],
    "serve": [],
    "notify": [],
    "desk": [],
    "erase": ["--customer", "c1"],
    "backup": ["somewhere"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_of_a_later_version_is_refused(newer, churn_home, command):
    done = CliRunner().invoke(cli.app, [command, *COMMANDS[command]])
    assert isinstance(done.exception, ChurnRadarError)
    assert str(done.exception) == newer
    assert [path.name for path in churn_home.iterdir()] == [VERSION_FILE]


def test_dbt_and_feast_refuse_it_too(newer, churn_home):
    with pytest.raises(DbtRuntimeError, match=re.escape(newer)):
        prepare(churn_home)
    for command in ("apply", "serve"):
        with pytest.raises(SystemExit, match=re.escape(f"feast {command}: {newer}")):
            prepare_home([command])
    with pytest.raises(ChurnRadarError, match=re.escape(newer)):
        open_store()
    assert [path.name for path in churn_home.iterdir()] == [VERSION_FILE]


def test_a_damaged_version_is_named(churn_home):
    churn_home.mkdir()
    (churn_home / VERSION_FILE).write_text("{")
    with pytest.raises(ChurnRadarError, match=r"version\.json: cannot be read; expected a format and a version"):
        make_home()
