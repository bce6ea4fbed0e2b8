"""The adapter: Python models, Parquet files, and tables that are replaced as a whole when rows change."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
from dbt.adapters.base import available
from dbt.adapters.spark.impl import SparkAdapter
from dbt.adapters.sparkpython.column import SparkPythonColumn
from dbt.adapters.sparkpython.connections import SparkPythonConnectionManager

from inference.warehouse import spark
from inference.warehouse.plugin import errors_for_dbt, import_torch


class SparkPythonAdapter(SparkAdapter):
    """dbt-spark's adapter with Python models that run in this process."""

    ConnectionManager = SparkPythonConnectionManager
    Column = SparkPythonColumn

    def __init__(self, config: Any, mp_context: Any) -> None:
        super().__init__(config, mp_context)
        self._types: dict[str, dict[str, str] | None] = {}

    @available
    def project_vars(self) -> dict[str, Any]:
        """Return the vars of the root project."""
        return self.config.vars.to_dict()

    @available
    def run_python_model(self, parsed_model: dict) -> str:
        """Run a Python model, and return its rows as a relation: a file that ``forget_python_model`` deletes."""
        folder = self._scratch(parsed_model)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with duckdb.connect() as memory:
            rows = _run_model(parsed_model, spark.ModelSession(memory, folder), memory)
            names = ['"' + column.replace('"', '""') + '"' for column in rows.columns]
            types = [spark.PLAIN_TYPES.get(str(type_), str(type_)) for type_ in rows.types]
            casts = (f"cast({name} as {type_}) as {name}" for name, type_ in zip(names, types, strict=True))
            memory.execute(f"copy (select {', '.join(casts)} from result) to '{folder}/rows.parquet' (format parquet)")
        return spark.file_relation(folder / "rows.parquet")

    @available
    def forget_python_model(self, parsed_model: dict) -> None:
        """Delete the file that a Python model wrote, after it was copied to the model's table."""
        shutil.rmtree(self._scratch(parsed_model), ignore_errors=True)

    def _scratch(self, parsed_model: dict) -> Path:
        return spark.scratch(Path(self.config.credentials.home)) / parsed_model["alias"]

    @available
    def export_parquet(self, query: str, path: str) -> None:
        """Write the rows of a query to a Parquet file of CHURN_HOME; its ``path`` has no extension."""
        spark.export(query, Path(self.config.credentials.home) / f"{path}.parquet")

    @available
    def file_relation(self, file: str) -> str:
        """Return a Parquet file, which need not exist, as a relation."""
        return spark.file_relation(file)

    @available
    def salt_relation(self) -> str:
        """Return the file with the salt as a relation."""
        return spark.salt_relation(Path(self.config.credentials.home))

    @available
    def column_types(self, relation: str) -> dict[str, str] | None:
        """See ``spark.column_types``; those of a file are kept, as every model asks for them."""
        if "parquet.`" not in relation:
            return spark.column_types(relation)
        if relation not in self._types:
            self._types[relation] = spark.column_types(relation)
        return self._types[relation]

    @available
    def table_comment(self, relation: Any) -> str | None:
        """Return the comment on a table; None if there is no comment or no table."""
        return spark.table_comment(str(relation))

    @available
    def rewrite(self, relation: Any, query: str) -> None:
        """Replace a table's rows by those of a query, which may read the table."""
        spark.rewrite(str(relation), query)

    @available
    def keep_rows(self, relation: Any, condition: str) -> None:
        """Delete the rows of a table that do not satisfy a condition."""
        spark.rewrite(str(relation), f"select * from {relation} where {condition}")

    @available
    def change_rows(self, relation: Any, column: str, value: str, condition: str) -> None:
        """Update a column of a table in the rows that satisfy a condition."""
        columns = (
            f"case when {condition} then {value} else {c.quoted} end as {c.quoted}" if c.name == column else c.quoted
            for c in self.get_columns_in_relation(relation)
        )
        spark.rewrite(str(relation), f"select {', '.join(columns)} from {relation}")

    @available
    def new_relation(self, relation: Any) -> Any:
        """Return the temporary name of a table that will replace another."""
        return relation.incorporate(path={"identifier": f"{relation.identifier}{spark.NEW}"}, type="table")

    @available
    def put_in_place(self, relation: Any) -> None:
        """Replace a table or view by the new table."""
        spark.put_in_place(str(relation))
        self.cache_added(relation.incorporate(type="table"))


@errors_for_dbt()
def _run_model(
    parsed_model: dict, session: spark.ModelSession, memory: duckdb.DuckDBPyConnection
) -> duckdb.DuckDBPyRelation:
    """Run a Python model in this process; its rows are ``result`` in ``memory``, where the session reads tables to."""
    import_torch()
    module = ModuleType(f"dbt_python_model_{parsed_model['alias']}")
    exec(compile(parsed_model["compiled_code"], parsed_model["original_file_path"], "exec"), module.__dict__)
    memory.register("result", module.model(module.dbtObj(session.table), session))
    return memory.sql("from result")
