"""What adapters share that run Python models in dbt's own process, where they read relations of DuckDB."""

import difflib
from types import ModuleType
from typing import Any

import duckdb
from dbt.adapters.base.meta import AdapterMeta, available

from inference.warehouse.plugin import errors_for_dbt


class InProcessAdapter(metaclass=AdapterMeta):
    """What macros cannot find out themselves, whatever the warehouse."""

    @available
    def project_vars(self) -> dict[str, Any]:
        """Return the vars of the root project."""
        return self.config.vars.to_dict()

    @available
    def nearest_name(self, name: str, known: list[str]) -> str:
        """Return the one of ``known`` that is most like a name."""
        return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]


@errors_for_dbt()
def run(parsed_model: dict, session, memory: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Run a Python model.

    Parameters
    ----------
    parsed_model : dict
        The node, with its compiled code.
    session : object
        What the model knows as its session: ``sql`` and ``table`` answer relations of DuckDB.
    memory : DuckDBPyConnection
        Where those relations live until the model has ended.

    Returns
    -------
    DuckDBPyRelation
        The model's rows.
    """
    module = ModuleType(f"dbt_python_model_{parsed_model['alias']}")
    exec(compile(parsed_model["compiled_code"], parsed_model["original_file_path"], "exec"), module.__dict__)
    memory.register("result", module.model(module.dbtObj(session.table), session))
    return memory.sql("from result")
