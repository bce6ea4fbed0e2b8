"""dbt's ``manifest.json``: where it lies, and what this project reads from it."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from inference.errors import ChurnRadarError
from inference.features.time_features import TIME_FEATURES
from inference.home import POSTGRES_DATABASE, PROJECT_DIR, home, whole_file

#: Feast service of the tables whose numeric columns are the model's features, by their ``meta.feast``.
FEATURES_SERVICE = "churn_features_v1"
#: dbt data types of numeric columns.
NUMERIC_TYPES = ("integer", "bigint", "double")
#: Values of ``CHURN_ENGINE``.
ENGINES = ("local", "spark")
#: File of ``CHURN_HOME`` with the absolute path of the folder that dbt wrote its manifest to last.
NOTE = "dbt_target.txt"
#: File of ``CHURN_HOME`` with the path of another project's DuckDB file, relative to the home if it lies there.
WAREHOUSE_NOTE = "warehouse.txt"
#: The same folder, of the dbt command that runs in this process.
_running: Path | None = None


class Manifest:
    """The part of a manifest that this project reads, parsed once; ``Manifest.load`` caches it.

    Attributes
    ----------
    path : Path
        The file; where it does not exist, the other attributes are those of an empty DuckDB project.
    warehouse : str
        Where dbt builds: ``duckdb``, ``postgres`` or ``spark``.
    schema : str or None
        The schema of ``churn_predictions``, which is another in another project; None where it is not built.
    feature_models : list of dict
        Nodes of the models with ``meta.feast``, in the order of their unique ids.
    fingerprint : str or None
        Hash of every model, seed and macro of the project with its settings, as 32 hexadecimal digits: equal for equal
        projects. None without a file.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text()) if path.exists() else {}
        except ValueError:
            raise ChurnRadarError(f"{path}: cannot be read; expected dbt's manifest: run dbt parse") from None
        self.path = path
        self.warehouse: str = _warehouse(content)
        self.schema: str | None = content.get("nodes", {}).get("model.churn_radar.churn_predictions", {}).get("schema")
        self.feature_models: list[dict[str, Any]] = [
            {"unique_id": unique_id, **node}
            for unique_id, node in sorted(content.get("nodes", {}).items())
            if node["resource_type"] == "model" and "feast" in node["config"].get("meta", {})
        ]
        self.fingerprint = _fingerprint(content) if content else None

    @staticmethod
    def load(path: Path | None = None) -> "Manifest":
        """Read a manifest, by default that of ``manifest_path``, or return the one in memory if it has not changed."""
        path = path or manifest_path()
        return _load(path, path.stat().st_mtime_ns if path.exists() else 0)

    @property
    def model_columns(self) -> list[str]:
        """Names of the model's numeric features, ordered by table and then as in the table's contract."""
        self.refuse_missing()
        parts = [
            model for model in self.feature_models if model["config"]["meta"]["feast"]["service"] == FEATURES_SERVICE
        ]
        return [
            column["name"]
            for part in sorted(parts, key=lambda model: model["name"])
            for column in part["columns"].values()
            if (column["data_type"] or "").lower() in NUMERIC_TYPES
        ]

    @property
    def packed_names(self) -> list[str]:
        """Names of the features that ``model_features`` packs behind the time features, in packed order."""
        return [name for name in self.model_columns if name not in TIME_FEATURES]

    @property
    def definitions(self) -> list[list]:
        """Everything about each feature model that Feast's definitions depend on."""
        return [
            [m["unique_id"], m["description"], m["config"]["meta"]["feast"], m["config"]["contract"], m["columns"]]
            for m in self.feature_models
        ]

    def refuse_missing(self) -> None:
        """Raise ChurnRadarError if there is no manifest."""
        if self.fingerprint is None:
            raise ChurnRadarError(f"{self.path}: no such file; run `dbt build` or `dbt parse` first")


@lru_cache(maxsize=1)
def _load(path: Path, _modified: int) -> Manifest:
    return Manifest(path)


def _fingerprint(content: dict) -> str:
    nodes = {
        unique_id: [node.get("checksum", {}).get("checksum"), node["config"].get("materialized")]
        for unique_id, node in content.get("nodes", {}).items()
        if node["resource_type"] in ("model", "seed")
    }
    # macros of dbt's own packages change with its version, which is hashed as well
    packages = {unique_id.split(".")[1] for unique_id in nodes}
    macros = {
        unique_id: macro["macro_sql"]
        for unique_id, macro in content.get("macros", {}).items()
        if unique_id.split(".")[1] in packages
    }
    hashed = json.dumps([content.get("metadata", {}).get("dbt_version"), nodes, macros], sort_keys=True)
    return hashlib.blake2b(hashed.encode(), digest_size=16).hexdigest()


def note_target(folder: Path) -> None:
    """Remember the absolute folder that the running dbt command writes to, in this process and for later ones."""
    global _running
    _running = folder
    _note(NOTE, folder)


def note_warehouse(file: Path) -> None:
    """Remember the DuckDB file that dbt builds in, for later processes."""
    file, state = file.resolve(), home().resolve()
    if file != warehouse_file().resolve():
        _note(WAREHOUSE_NOTE, file.relative_to(state) if file.is_relative_to(state) else file)


def warehouse_file() -> Path:
    """The DuckDB file that dbt built in last; in this project ``churn_radar.duckdb`` in the home folder."""
    note = home() / WAREHOUSE_NOTE
    return home() / (note.read_text(errors="replace") if note.exists() else "churn_radar.duckdb")


def _note(name: str, path: Path) -> None:
    note = home() / name
    if not note.exists() or note.read_text(errors="replace") != str(path):
        with whole_file(note) as beside:
            beside.write_text(str(path))


def manifest_path() -> Path:
    """Find dbt's manifest.

    It is the first of these that exists: where the dbt command of this process writes it; in ``DBT_TARGET_PATH``,
    relative to the working directory or to the project; where dbt wrote it last for this ``CHURN_HOME``, whatever its
    project; in ``target`` of this project. If there is none, it is the path where one is expected.
    """
    variable, note = os.environ.get("DBT_TARGET_PATH"), home() / NOTE
    folders = [_running] if _running else []
    folders += [Path.cwd() / variable, PROJECT_DIR / variable] if variable else []
    folders += [Path(note.read_text(errors="replace"))] if note.exists() else []
    folders.append(PROJECT_DIR / (variable or "target"))
    paths = [folder / "manifest.json" for folder in folders]
    return next((path for path in paths if path.exists()), paths[-1])


def engine() -> str:
    """Return what reads texts and scores customers: ``local``, which is this process, or ``spark``.

    It is ``CHURN_ENGINE``, and by default ``spark`` where dbt builds in Spark; another value is a ChurnRadarError.
    """
    name = os.environ.get("CHURN_ENGINE") or ("spark" if Manifest.load().warehouse == "spark" else "local")
    if name not in ENGINES:
        raise ChurnRadarError(f"CHURN_ENGINE is {name}; expected {' or '.join(ENGINES)}")
    return name


def _warehouse(content: dict[str, Any]) -> str:
    """DuckDB builds in PostgreSQL where models lie in a database of that name; adapters of our own end in python."""
    if any(node.get("database") == POSTGRES_DATABASE for node in content.get("nodes", {}).values()):
        return "postgres"
    return content.get("metadata", {}).get("adapter_type", "duckdb").removesuffix("python")
