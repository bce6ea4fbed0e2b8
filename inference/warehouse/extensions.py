"""DuckDB's extensions from PyPI packages: DuckDB loads them when they are needed, without downloading anything."""

import importlib.util
import pkgutil
from pathlib import Path

import duckdb

from inference.errors import ChurnRadarError

PREFIX = "duckdb_extension_"
#: Extension that reads an attached database, by the ``type`` of the attachment in ``profiles.yml``.
SCANNERS = {
    "postgres": "postgres_scanner",
    "mysql": "mysql_scanner",
    "sqlite": "sqlite_scanner",
    "delta": "delta",
    "iceberg": "iceberg",
}


def extension_settings(home: Path) -> dict[str, str]:
    """Link the installed packages ``duckdb-extension-*`` to a folder of ``CHURN_HOME``, and return its setting.

    That is ``extension_directory``; there is none where no such package is installed, so that DuckDB uses its own.
    """
    if not (files := _extension_files()):
        return {}
    folder = home.absolute() / "duckdb_extensions"
    ((platform,),) = duckdb.execute("pragma platform").fetchall()
    links = folder / f"v{duckdb.__version__}" / platform
    links.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = links / file.name
        if link.resolve() != file:
            link.unlink(missing_ok=True)
            link.symlink_to(file)
    return {"extension_directory": str(folder)}


def require_scanner(kind: str | None) -> None:
    """Refuse an attached database whose extension is missing, before DuckDB tries to download it.

    ``kind`` is the attachment's ``type``, None for a file of DuckDB; ChurnRadarError names the package to install.
    """
    name = SCANNERS.get(kind or "duckdb")
    if name and f"{name}.duckdb_extension" not in {file.name for file in _extension_files()}:
        package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise ChurnRadarError(f"databases of type {kind} are read by an extension of DuckDB: pip install {package}")


def _extension_files() -> list[Path]:
    """Files of the installed packages that are built for the installed version of DuckDB."""
    specs = [importlib.util.find_spec(m.name) for m in pkgutil.iter_modules() if m.name.startswith(PREFIX)]
    folders = [Path(folder).resolve() for spec in specs if spec for folder in spec.submodule_search_locations or []]
    return [file for folder in folders for file in folder.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")]
