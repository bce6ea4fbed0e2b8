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
    """Link the installed packages ``duckdb-extension-*`` to a folder that DuckDB loads extensions from.

    Parameters
    ----------
    home : Path
        ``CHURN_HOME``.

    Returns
    -------
    dict of str to str
        ``extension_directory`` for ``duckdb.connect``; empty where no such package is installed, so that DuckDB's own
        folder is used.
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

    Parameters
    ----------
    kind : str or None
        ``type`` of the attachment; None for a file of DuckDB.

    Raises
    ------
    ChurnRadarError
        If the package is not installed for this version of DuckDB.
    """
    name = SCANNERS.get(kind or "duckdb")
    if name and f"{name}.duckdb_extension" not in {file.name for file in _extension_files()}:
        package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise ChurnRadarError(f"databases of type {kind} are read by an extension of DuckDB: pip install {package}")


def _extension_files() -> list[Path]:
    """Files of the installed packages that are built for the installed version of DuckDB."""
    specs = [importlib.util.find_spec(m.name) for m in pkgutil.iter_modules() if m.name.startswith(PREFIX)]
    files = [
        Path(folder).resolve()
        / "extensions"
        / f"v{duckdb.__version__}"
        / f"{spec.name.removeprefix(PREFIX)}.duckdb_extension"
        for spec in specs
        if spec
        for folder in spec.submodule_search_locations or []
    ]
    return [file for file in files if file.exists()]
