"""Connections of dbt, which all share one Spark session."""

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

#: Start of the query plan in an error of Spark.
PLAN = re.compile(r";\n'|\n\nJVM stacktrace:|\n\tat ")


@dataclass
class SparkPythonCredentials(SparkCredentials):
    """Schema and ``CHURN_HOME``; Spark's own configuration says where Spark runs."""

    host: str = "localhost"
    method: SparkConnectionMethod = SparkConnectionMethod.SESSION
    home: str = ".churn"

    @property
    def type(self) -> str:
        """Name of the adapter."""
        return "sparkpython"

    def __post_init__(self) -> None:
        super().__post_init__()
        # dbt-spark would turn ANSI mode off here; the session's settings apply
        self.server_side_parameters = {}


class SparkPythonConnectionManager(SparkConnectionManager):
    """Opens connections; the first one prepares ``CHURN_HOME`` and repairs tables that a killed build left."""

    TYPE = "sparkpython"
    _preparing = Lock()
    _prepared: ClassVar[set[str]] = set()

    def __init__(self, profile: Any, mp_context: Any) -> None:
        super().__init__(profile, mp_context)
        self._prepared.clear()  # each dbt command creates a manager and reads new events

    @contextmanager
    def exception_handler(self, sql: str) -> Iterator[None]:
        """Shorten errors: leave out the query plan, which may have hundreds of lines."""
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
