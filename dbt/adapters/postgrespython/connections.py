"""Connections in UTC, which know the salt and find what lies in CHURN_HOME loaded."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, local
from typing import ClassVar

from dbt.adapters.contracts.connection import Connection, ConnectionState
from dbt.adapters.postgres.connections import PostgresConnectionManager, PostgresCredentials

from inference.pseudonyms import postgres_salt_sql, salt
from inference.warehouse import postgres
from inference.warehouse.plugin import HOME_TABLES, prepare


@dataclass
class PostgresPythonCredentials(PostgresCredentials):
    """Those of dbt's adapter, and the folder of all state besides."""

    home: str = ".churn"

    @property
    def type(self) -> str:
        """Name of the adapter."""
        return "postgrespython"

    def connect(self) -> AbstractContextManager:
        """Open a transaction of ADBC, in a session with the settings of dbt's."""
        dsn = postgres.session_dsn(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.database,
            connect_timeout=self.connect_timeout,
            sslmode=self.sslmode,
            sslcert=self.sslcert,
            sslkey=self.sslkey,
            sslrootcert=self.sslrootcert,
            application_name=self.application_name,
        )
        return postgres.connect(dsn, *([f"set role {self.role}"] if self.role else []), *self.settings())

    def settings(self) -> list[str]:
        """Return the statements that every session begins with."""
        # the salt is a setting, so that neither compiled SQL nor dbt's log says what it is
        return ["set timezone to 'UTC'", "set datestyle to 'ISO'", postgres_salt_sql(salt(Path(self.home)))]


class PostgresPythonConnectionManager(PostgresConnectionManager):
    """Opens connections, and does after a commit what must not be done before."""

    TYPE = "postgrespython"
    _preparing = Lock()
    _prepared: ClassVar[set[str]] = set()

    def __init__(self, profile, mp_context) -> None:
        super().__init__(profile, mp_context)
        self._prepared.clear()  # each run of dbt makes a manager and reads what is new
        self._waiting = local()

    @classmethod
    def open(cls, connection: Connection) -> Connection:
        """Open a connection; the first one makes CHURN_HOME and loads what it holds."""
        if connection.state == ConnectionState.OPEN:
            return connection
        credentials = cls.get_credentials(connection.credentials)
        with cls._preparing:
            if credentials.home not in cls._prepared:
                prepare(Path(credentials.home))
                _load_home(credentials)
                cls._prepared.add(credentials.home)
        connection = super().open(connection)
        with connection.handle.cursor() as cursor:
            for statement in credentials.settings():
                cursor.execute(statement)
        connection.handle.commit()
        return connection

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something once this thread's transaction is committed, for only then do other connections see it."""
        self._actions().append(action)

    def begin(self) -> None:
        """Begin a transaction; what waited for one that never ended is forgotten."""
        self._actions().clear()
        super().begin()

    def commit(self) -> None:
        """Commit, and do what waited for it."""
        super().commit()
        actions = list(self._actions())
        self._actions().clear()
        for action in actions:
            action()

    def _actions(self) -> list[Callable[[], None]]:
        if not hasattr(self._waiting, "actions"):
            self._waiting.actions = []
        return self._waiting.actions


def _load_home(credentials: PostgresPythonCredentials) -> None:
    """Load the Parquet files of CHURN_HOME that staging reads; where one is gone its table stays, empty, for views."""
    with credentials.connect() as connection:
        for path in HOME_TABLES:
            file, table = Path(credentials.home) / f"{path}.parquet", home_table(path)
            if file.exists():
                postgres.execute(connection, f'create schema if not exists "{credentials.schema}"')
                postgres.load(connection, credentials.schema, table, file)
            elif postgres.is_there(connection, f'"{credentials.schema}"."{table}"'):
                postgres.execute(connection, f'truncate "{credentials.schema}"."{table}"')


def home_table(path: str) -> str:
    """Name of the table that a Parquet file of CHURN_HOME is loaded to."""
    return f"home_{path.replace('/', '_')}"
