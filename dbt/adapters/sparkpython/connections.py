"""Connections: all of them to the one session of this process."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from dbt.adapters.contracts.connection import Connection, ConnectionState
from dbt.adapters.spark.connections import SparkConnectionManager, SparkConnectionMethod, SparkCredentials
from dbt.adapters.spark.session import Connection as SessionHandle
from dbt.adapters.spark.session import SessionConnectionWrapper
from dbt_common.exceptions import DbtRuntimeError

from inference.warehouse import spark
from inference.warehouse.plugin import prepare

#: Where Spark begins to tell the plan of a query that failed.
PLAN = re.compile(r";\n'|\n\nJVM stacktrace:|\n\tat ")


@dataclass
class SparkPythonCredentials(SparkCredentials):
    """The folder of all state, and a schema; where Spark is and how it runs is said as Spark has it."""

    host: str = "localhost"
    method: SparkConnectionMethod = SparkConnectionMethod.SESSION
    home: str = ".churn"

    @property
    def type(self) -> str:
        """Name of the adapter."""
        return "sparkpython"

    def __post_init__(self) -> None:
        super().__post_init__()
        # dbt-spark turns ANSI mode off here; the session's own settings hold
        self.server_side_parameters = {}


class SparkPythonConnectionManager(SparkConnectionManager):
    """Opens connections; the first one makes CHURN_HOME and mends what a killed build left."""

    TYPE = "sparkpython"
    _preparing = Lock()
    _prepared: ClassVar[set[str]] = set()

    def __init__(self, profile: Any, mp_context: Any) -> None:
        super().__init__(profile, mp_context)
        self._prepared.clear()  # each run of dbt makes a manager and reads what is new

    @contextmanager
    def exception_handler(self, sql: str) -> Iterator[None]:
        """Say what went wrong without the plan of the query, which may have hundreds of lines."""
        try:
            with super().exception_handler(sql):
                yield
        except DbtRuntimeError as error:
            raise DbtRuntimeError(PLAN.split(error.msg)[0]) from None

    @classmethod
    def open(cls, connection: Connection) -> Connection:
        """Open a connection."""
        if connection.state == ConnectionState.OPEN:
            return connection
        credentials = connection.credentials
        with cls._preparing:
            if credentials.home not in cls._prepared:
                prepare(Path(credentials.home))
                spark.write_salt(Path(credentials.home))
                spark.mend(spark.session(), credentials.schema)
                cls._prepared.add(credentials.home)
        connection.handle = SessionConnectionWrapper(SessionHandle())
        connection.state = ConnectionState.OPEN
        return connection
