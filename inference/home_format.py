"""The format of a home folder: making a home, and refusing one that a later version wrote."""

import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from inference.errors import ChurnRadarError
from inference.home import home, whole_file

#: Raised with each change of a home's files that an earlier version could not read. ``make_home`` then migrates homes
#: of the formats before.
FORMAT = 1
#: File of the home folder with its format and the version of Churn Radar that wrote it last.
VERSION_FILE = "version.json"


def make_home(folder: Path | None = None) -> None:
    """Make a home folder that its owner alone can read, and note its format; whoever locks a home calls it.

    The mode of a folder that is a home already stays as its owner set it.
    Raises ChurnRadarError if a later version wrote it, OSError if it cannot be written to.
    """
    folder = folder or home()
    refuse_newer(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = read_format(folder)
    if before is None and not (folder / "features").exists():  # new, though raw tables or dbt's logs may be in it
        with suppress(PermissionError):  # of another owner; churn-radar doctor says so
            folder.chmod(0o700)
    written = {"format": FORMAT, "churn_radar": version("churn-radar")}
    if before != written:
        with whole_file(folder / VERSION_FILE) as beside:
            beside.write_text(json.dumps(written))


def refuse_newer(folder: Path | None = None) -> None:
    """Raise ChurnRadarError if a later version of Churn Radar wrote the home folder."""
    written = read_format(folder or home())
    if written and written["format"] > FORMAT:
        raise ChurnRadarError(
            f"{folder or home()}: written by Churn Radar {written['churn_radar']} in format {written['format']}, and "
            f"Churn Radar {version('churn-radar')} reads format {FORMAT}; expected that version or a later one"
        )


def read_format(folder: Path) -> dict | None:
    """Content of ``version.json``: ``format`` and ``churn_radar``; None in a home from before there was one."""
    file = folder / VERSION_FILE
    try:
        written = json.loads(file.read_text())
        return {"format": int(written["format"]), "churn_radar": str(written["churn_radar"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise ChurnRadarError(f"{file}: cannot be read; expected a format and a version, as dbt build writes") from None
