"""The log of accepted events in PostgreSQL: for services on several machines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from inference.event_log.events import EventLogDownError
from inference.event_log.sql_log import SqlEventLog
from inference.home import postgres_schema, postgres_settings

#: Seconds to wait for a connection, and milliseconds for an answer.
CONNECT_SECONDS, ANSWER_MS = 3, 5000
_SCHEMA = """
do $$ begin if to_regnamespace('{schema}') is null then create schema {schema}; end if; end $$;
set search_path = {schema};
create table if not exists events (
    sequence bigint primary key,
    event_id text not null unique,
    customer_id text not null,
    received_at text not null,
    content_hash bytea not null,
    rows json not null
);
create index if not exists events_of_customer on events (customer_id, sequence);
create table if not exists dropped (
    sequence bigint primary key,
    event_id text not null,
    customer_id text not null,
    received_at text not null,
    content_hash bytea not null,
    dropped_at text not null,
    reason text not null
);
create index if not exists dropped_of_event on dropped (event_id);
create index if not exists dropped_of_customer on dropped (customer_id);
create table if not exists newest (sequence bigint not null);
insert into newest select 0 where not exists (select 1 from newest);
create table if not exists identity (id text not null);
insert into identity select gen_random_uuid() where not exists (select 1 from identity);
"""


class PostgresEventLog(SqlEventLog):
    """Tables in the schema of dbt's tables with ``_events`` at its end, on the server that ``PGHOST`` and others name.

    The connection is made again after an error. The server flushes each transaction to disk, whatever its
    ``synchronous_commit``.
    """

    kind = "postgres"
    last_position = "select sequence from newest"
    next_position = "update newest set sequence = sequence + 1 returning sequence"
    go_on_after = "update newest set sequence = greatest(sequence, ?)"
    key = "(rows #>> '{{{table},0,{column}}}')"

    def __init__(self) -> None:
        self._schema = f"{postgres_schema()}_events"
        self._connection: psycopg.Connection | None = None
        with self.transaction():  # one process makes the tables
            self.execute(_SCHEMA.format(schema=self._schema))
            self.make_indexes()

    def execute(self, query: str, parameters: Sequence = ()) -> Any:
        """See ``SqlEventLog``."""
        with self._answering():
            return self._connected().execute(query.replace("?", "%s"), list(parameters) or None)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See ``SqlEventLog``: a lock of PostgreSQL lets one process at a time give positions and commit them."""
        with self._answering(), self._connected().transaction():
            self.execute("select pg_advisory_xact_lock(hashtext(?))", [self._schema])
            yield

    def identity(self) -> str:
        """See ``EventLog``."""
        return self.execute("select id from identity").fetchone()[0]

    def now(self) -> str:
        """See ``SqlEventLog``: of the server's clock, as those of the services may differ."""
        ((now,),) = self.execute("select clock_timestamp() at time zone 'utc'").fetchall()
        return f"{now.isoformat()}+00:00"

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            settings: dict[str, Any] = {name: value for name, value in postgres_settings().items() if value != ""}
            # the server ends the transaction of a machine that is gone, which would keep all others from writing
            options = (
                f"-c search_path={self._schema} -c synchronous_commit=on -c statement_timeout={ANSWER_MS} "
                f"-c idle_in_transaction_session_timeout={ANSWER_MS} -c default_transaction_isolation=read\\ committed"
            )
            self._connection = psycopg.connect(
                **settings,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                tcp_user_timeout=ANSWER_MS,
                keepalives_idle=ANSWER_MS // 1000,
                keepalives_interval=1,
                keepalives_count=3,
                application_name="churn-radar events",
                options=options,
            )
        return self._connection

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self.close()
            server = f"PostgreSQL at {postgres_settings()['host']}:{postgres_settings()['port']}"
            expected = f"expected the log of accepted events in schema {self._schema} (CHURN_EVENTS=postgres)"
            problem = error.diag.message_primary or error  # details may show a customer's data
            raise EventLogDownError(f"{server}: {problem}; {expected}") from None
