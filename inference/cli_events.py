"""``churn-radar events``: the log of the events that the service accepted, for operators."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from inference.errors import ChurnRadarError, printable
from inference.event_log.events import KINDS, LoggedEvent
from inference.event_log.sqlite_log import SqliteEventLog
from inference.home import home

app = typer.Typer(help="List, show and drop events that the service accepted.", no_args_is_help=True)

EventId = Annotated[str, typer.Argument(help="Id of the event, as the application sent it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list", epilog="Example: churn-radar events list --customer 1301 --kind order --since 2026-11-01")
def list_events(
    customer: Annotated[str | None, typer.Option(help="Only of this customer, by the shop's own id.")] = None,
    kind: Annotated[str | None, typer.Option(help=f"Only of this kind: {', '.join(KINDS.values())}.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only those accepted from this moment on (UTC).", show_default=False)
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to list, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List accepted events, the newest first, while the service runs or not."""
    if kind is not None and kind not in KINDS.values():
        raise ChurnRadarError(f"--kind is {kind}; expected {', '.join(KINDS.values())}")
    with _log() as log:
        latest = log.latest(customer, since and since.replace(tzinfo=since.tzinfo or UTC))
        events = list(islice((event for event in latest if kind in (None, event.kind)), top))
    if as_json:
        typer.echo(json.dumps([_as_dict(event) for event in events], indent=2))
        return
    from inference.reporting import tables

    title = f"The {len(events)} newest accepted events" if events else "No such event"
    tables.console().print(tables.events_table([_as_dict(event) for event in events], title))


@app.command(epilog="Example: churn-radar events show shop-7731")
def show(event_id: EventId) -> None:
    """Show an event with its rows, as JSON; or when and why it was dropped."""
    with _log() as log:
        event, dropped = log.get(event_id), log.dropped(event_id)
    if event is None and dropped is None:
        raise ChurnRadarError(f"event {event_id} is not in the log; churn-radar events list shows which are")
    typer.echo(json.dumps(dropped if event is None else _as_dict(event) | {"rows": event.rows}, indent=2))


@app.command(epilog="Example: churn-radar events drop shop-7731 --reason 'sent by a test'")
def drop(
    event_id: EventId,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the event's id, and events show prints it.")],
) -> None:
    """Remove an event from the log, also while the service runs; the next dbt build does not read it."""
    with _log() as log:
        event = log.drop(event_id, reason)
    about = printable(f"{event.kind} {event.key} of customer {event.customer_id}")
    typer.echo(
        f"Dropped: {about}, accepted {event.received_at:%Y-%m-%d %H:%M} UTC. The next dbt build does not read it. "
        "A running service scores the customer without it within seconds; if a build had read the event already, "
        "after the next dbt build and feast materialize."
    )


@contextmanager
def _log() -> Iterator[SqliteEventLog]:
    """Open the log; a ChurnRadarError where there is none or it cannot be used."""
    file = home() / "events" / "log.db"
    if not file.exists():
        raise ChurnRadarError(f"{file}: no such file; expected the log of a churn-radar serve that accepted events")
    with closing(SqliteEventLog(file)) as log:
        try:
            yield log
        except sqlite3.OperationalError as error:
            raise ChurnRadarError(f"{file}: {error}; expected a log that the service leaves free for seconds") from None


def _as_dict(event: LoggedEvent) -> dict[str, str]:
    return {
        "accepted": event.received_at.isoformat(timespec="seconds"),
        "kind": event.kind,
        "customer_id": event.customer_id,
        "id": event.key,
        "event_id": event.event_id,
    }
