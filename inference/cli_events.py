"""``churn-radar events``: the log of the events that the service accepted, for operators."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from inference.errors import ChurnRadarError, printable
from inference.event_log.events import KINDS, LoggedEvent
from inference.event_log.log import NOT_LOGGED, DroppedEvent, EventLog
from inference.event_log.opening import chosen, connect, existing_log, use, used
from inference.home import home
from inference.lock import writing

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
    if not events:
        typer.echo("No such event")
        return
    from inference.reporting import tables

    title = f"The {len(events)} newest accepted events"
    tables.console().print(tables.events_table([_as_dict(event) for event in events], title))


@app.command(epilog="Example: churn-radar events show shop-7731")
def show(event_id: EventId) -> None:
    """Show an event with its rows, as JSON; or when and why it was dropped."""
    with _log() as log:
        event, dropped = log.get(event_id), _dropped(log, event_id)
    if event is not None:
        shown = _as_dict(event) | {"rows": event.rows}
    elif dropped:
        shown = {name: value for name, value in vars(dropped).items() if name not in ("sequence", "content_hash")}
    else:
        raise ChurnRadarError(NOT_LOGGED.format(event_id))
    typer.echo(json.dumps(shown, indent=2))


@app.command(epilog="Example: churn-radar events drop shop-7731 --reason 'sent by a test'")
def drop(
    event_id: EventId,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the event's id, and events show prints it.")],
) -> None:
    """Remove an event from the log, also while the service runs; the next dbt build does not read it."""
    with _log() as log:
        if log.get(event_id) is None and (dropped := _dropped(log, event_id)):
            when = f"{dropped.dropped_at[:16].replace('T', ' ')} UTC"
            raise ChurnRadarError(f"event {event_id} was dropped already, at {when}: {dropped.reason}")
        event = log.drop(event_id, reason)
    about = printable(f"{event.kind} {event.key} of customer {event.customer_id}")
    typer.echo(
        f"Dropped: {about}, accepted {event.received_at:%Y-%m-%d %H:%M} UTC. The next dbt build does not read it. "
        "A running service scores the customer without it within seconds; if a build had read the event already, "
        "after the next dbt build and feast materialize."
    )


@app.command(epilog="Example: CHURN_EVENTS=redis churn-radar events copy")
def copy() -> None:
    """Copy the log to where CHURN_EVENTS says, while no service runs; from then on the home's events are there."""
    source, target = used(), chosen()
    if source in (None, target):
        raise ChurnRadarError(f"CHURN_EVENTS is {target}, and there are no events elsewhere; expected another log")
    with writing("churn-radar events copy"), closing(connect(str(source))) as old, closing(connect(target)) as new:
        if new.newest():
            raise ChurnRadarError(
                f"the log in {target} has {len(new):,} events already; expected an empty one: delete them there if "
                "they are of a copy that was interrupted"
            )
        newest = old.newest()
        new.restore(old.since(), old.all_dropped())
        new.begin_after(newest)
        if old.newest() != newest:
            raise ChurnRadarError(
                "a service accepted events meanwhile, and nothing was changed; expected none: stop it, delete the "
                f"events in {target} and copy again"
            )
        use(new)
        kept = f"those in {source} are kept and not read" + ("" if source == "sqlite" else ", nor erased: delete them")
        typer.echo(f"Copied {len(new):,} events from {source} to {target}; {kept}")


@contextmanager
def _log() -> Iterator[EventLog]:
    """Open the log; a ChurnRadarError where there is none."""
    with existing_log() as log:
        if log is None:
            file = home() / "events" / "log.db"
            raise ChurnRadarError(f"{file}: no such file; expected the log of a churn-radar serve that accepted events")
        yield log


def _dropped(log: EventLog, event_id: str) -> DroppedEvent | None:
    return next((one for one in reversed(log.all_dropped()) if one.event_id == event_id), None)


def _as_dict(event: LoggedEvent) -> dict[str, str]:
    return {
        "accepted": event.received_at.isoformat(timespec="seconds"),
        "kind": event.kind,
        "customer_id": event.customer_id,
        "id": event.key,
        "event_id": event.event_id,
    }
