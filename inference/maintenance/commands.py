"""The commands that keep a home folder; ``inference/cli.py`` adds them to the others."""

from pathlib import Path
from typing import Annotated

import typer

from inference.errors import ChurnRadarError
from inference.home import home

commands = typer.Typer()


@commands.command(epilog="Example: churn-radar backup /backups/2026-11-30")
def backup(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")]) -> None:
    """Copy CHURN_HOME, with a checksum of every file, while the service runs. The copy holds the salt: keep it safe."""
    from inference.maintenance.backup import FILES, back_up
    from inference.maintenance.contents import summary

    manifest = back_up(folder)
    size = sum(file["bytes"] for file in manifest["files"].values())
    typer.echo(
        f"{home()} is backed up to {folder}: {len(manifest['files']):,} files, {size / 1e6:,.1f} MB, "
        f"{summary(folder / FILES)}"
    )
    _print_elsewhere(manifest)


@commands.command(epilog="Example: churn-radar restore /backups/2026-11-30")
def restore(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that backup made.")]) -> None:
    """Make CHURN_HOME from a backup, after all checksums were verified, and look a customer up online."""
    from inference.maintenance.contents import summary
    from inference.maintenance.restore import restore as restore_home
    from inference.maintenance.restore import trial_lookup

    manifest = restore_home(folder)
    _print_elsewhere(manifest)
    typer.echo(f"{home()} is restored as of {manifest['made_at']}: {summary(home())}; {trial_lookup()}")


@commands.command(epilog="Example: churn-radar doctor")
def doctor() -> None:
    """Check CHURN_HOME, every store in it, the disk and the clock; exit with 1 if there is a problem."""
    from rich.table import Column, Table

    from inference.maintenance.doctor import PROBLEM, examine
    from inference.reporting import tables

    checks = list(examine())
    table = Table("check", Column("status", no_wrap=True), "found", "to do", title=f"Churn Radar in {home()}")
    for check in checks:
        table.add_row(check.name, check.status, check.found, check.todo)
    tables.console().print(table)
    if problems := ", ".join(check.name for check in checks if check.status == PROBLEM):
        raise ChurnRadarError(f"problems: {problems}; the last column of the table says what to do")


def _print_elsewhere(manifest: dict) -> None:
    for place in manifest["elsewhere"]:
        typer.echo(f"Not in the backup: {place}")
