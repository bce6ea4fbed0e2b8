"""The adapter: Python models, Parquet files, and what macros cannot find out themselves."""

from pathlib import Path
from typing import Any, ClassVar

from dbt.adapters.base import available
from dbt.adapters.inprocess import InProcessAdapter
from dbt.adapters.postgres.impl import PostgresAdapter
from dbt.adapters.postgrespython.column import PostgresPythonColumn
from dbt.adapters.postgrespython.connections import PostgresPythonConnectionManager, home_table
from dbt.adapters.postgrespython.python_models import run

from inference.warehouse import postgres
from inference.warehouse.plugin import HOME_TABLES


class PostgresPythonAdapter(InProcessAdapter, PostgresAdapter):
    """dbt's own adapter, with Python models that run in this process."""

    ConnectionManager = PostgresPythonConnectionManager
    Column = PostgresPythonColumn
    #: What Python models write before it is moved into place.
    STAGED: ClassVar[str] = "__dbt_python"

    @available
    def run_python_model(self, parsed_model: dict) -> dict[str, Any]:
        """Run a Python model and write its rows beside its table.

        Parameters
        ----------
        parsed_model : dict
            The node, with its compiled code.

        Returns
        -------
        dict
            ``relation`` with the rows, and its ``columns`` as SQL.
        """
        # what the model's hooks did must be seen by the connection that reads for it
        self.connections.get_thread_connection().handle.commit()
        credentials = self.config.credentials
        schema, staged = parsed_model["schema"], f"{parsed_model['alias'][:50]}{self.STAGED}"
        columns = run(parsed_model, credentials.connect, schema, staged)
        return {"relation": f'"{schema}"."{staged}"', "columns": columns}

    @available
    def export_parquet(self, query: str, path: str) -> None:
        """Write what a query answers to a Parquet file of CHURN_HOME, once this transaction is committed.

        Parameters
        ----------
        query : str
            SQL.
        path : str
            Of the file in CHURN_HOME, without its ending.
        """
        credentials = self.config.credentials
        file = Path(credentials.home) / f"{path}.parquet"

        def write() -> None:
            with credentials.connect() as connection:
                postgres.export(connection, query, file)

        self.connections.after_commit(write)

    @available
    def load_parquet(self, file: str, schema: str, table: str) -> int | None:
        """Make a table hold the rows of a Parquet file.

        Parameters
        ----------
        file : str
            Where the file is.
        schema, table : str
            Which table; both are made where they are missing.

        Returns
        -------
        int or None
            How many rows it has; None where there is no such file, and nothing is done.
        """
        if not Path(file).exists():
            return None
        credentials = self.config.credentials
        with credentials.connect() as connection:
            postgres.execute(connection, f'create schema if not exists "{schema}"')
            return postgres.load(connection, schema, table, Path(file))

    @available
    def home_relation(self, path: str) -> str:
        """Return the relation that a Parquet file of CHURN_HOME was loaded to, whether there is one or not."""
        return f'"{self.config.credentials.schema}"."{home_table(path)}"'

    @available
    def column_types(self, relation: str) -> dict[str, str] | None:
        """Return the types of a relation's or subquery's columns by their names in lower case.

        Parameters
        ----------
        relation : str
            SQL.

        Returns
        -------
        dict of str to str, or None
            Types in capitals, as PostgreSQL writes them; None where there is no such relation, or no such file of
            CHURN_HOME, whose table is empty then.
        """
        if not relation.startswith("(") and not self._answers(f"to_regclass('{relation}') is not null"):
            return None
        is_file = relation in {self.home_relation(path) for path in HOME_TABLES}
        if is_file and not self._answers(f"exists (select 1 from {relation})"):
            return None
        _, cursor = self.connections.add_select_query(f"select * from {relation} as described limit 0")
        columns = [(column.name.lower(), column.type_code) for column in cursor.description]
        oids = ", ".join(str(oid) for _, oid in columns)
        _, names = self.execute(
            f"select oid::bigint, format_type(oid, null) from pg_type where oid in ({oids})", fetch=True
        )
        types = {int(oid): name.upper() for oid, name in names.rows}
        return {name: types[oid] for name, oid in columns}

    def _answers(self, condition: str) -> bool:
        _, answer = self.execute(f"select {condition}", fetch=True)
        return answer.rows[0][0]
