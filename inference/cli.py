"""The command line, ``churn-radar``."""

import importlib.util
import json
import runpy
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperCommand

from inference import cli_events
from inference.errors import ChurnRadarError, in_one_line
from inference.home import LOOPBACK, PROJECT_DIR, home, old_scores, published, raw_dir
from inference.home_format import refuse_newer
from inference.lock import writing
from inference.maintenance.commands import commands
from inference.progress import show_log
from inference.threads import prepare_threads

app = typer.Typer(
    help="Which customers are about to leave, why, and what they are worth. Commands that build do so where dbt's "
    "DBT_TARGET says: duckdb, the default, postgres or spark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(commands)
app.add_typer(cli_events.app, name="events")

Top = Annotated[int, typer.Option(min=1, help="How many customers to list.")]
Vars = Annotated[str, typer.Option("--vars", help="dbt vars as YAML, such as '{churn__horizon_days: 60}'.")]
Engine = Annotated[
    str,
    typer.Option(
        envvar="CHURN_ENGINE",
        help="What runs the models: local, in a process of this machine, or spark. By default spark where dbt builds "
        "there, else local.",
    ),
]
#: An option with a date.
DATE = ["%Y-%m-%d"]


class ReadsHome(TyperCommand):
    """A command that reads what a build wrote, and makes no new home of a mistyped one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; without the folder it is refused."""
        if not home().is_dir():
            raise ChurnRadarError(f"{home()}: no such folder; expected the CHURN_HOME of a shop that dbt build made")
        refuse_newer()
        return super().invoke(ctx)


def main() -> None:
    """Run the command line; bad input and damaged files end in one line and exit status 1."""
    show_log()
    try:
        prepare_threads()
        app()
    except Exception as error:
        line = in_one_line(error)
        if line is None:
            raise
        typer.echo(f"churn-radar: {line}", err=True)
        sys.exit(1)


@app.command("load-example", epilog="Example: churn-radar load-example complete-journey")
def load_example(
    name: Annotated[str, typer.Argument(help="Name of the example: complete-journey.")],
    force: Annotated[bool, typer.Option(help="Overwrite raw tables that are there already.")] = False,
) -> None:
    """Write the raw tables of a public data set to CHURN_RAW_DIR."""
    files = {path.stem.replace("_", "-"): path for path in sorted((PROJECT_DIR / "examples").glob("*.py"))}
    if name not in files:
        raise ChurnRadarError(f"no example is named {name}; expected one of {', '.join(files)}")
    with writing("churn-radar load-example"):
        _print_written(runpy.run_path(str(files[name]))["write"](_empty_raw_dir(force)))


@app.command(epilog="Example: churn-radar simulate --customers 5000 --days 540 --seed 1 --language en")
def simulate(
    customers: Annotated[int, typer.Option(help="Customers over the whole history.")] = 5000,
    days: Annotated[int, typer.Option(help="Days of history.")] = 540,
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop.")] = 1,
    language: Annotated[str, typer.Option(help="Language of reviews and tickets: en or zh.")] = "en",
    season: Annotated[str, typer.Option(help="Swing of demand over the year: none, mild or strong.")] = "mild",
    campaigns: Annotated[str, typer.Option(help="What campaigns change: none, mild or strong.")] = "mild",
    visit_every_days: Annotated[float, typer.Option(help="Mean days between visits without an order.")] = 8.0,
    force: Annotated[bool, typer.Option(help="Overwrite raw tables that are there already.")] = False,
) -> None:
    """Write the raw tables of a simulated shop to CHURN_RAW_DIR, and its hidden truth to CHURN_HOME/truth."""
    from inference.simulation import shop

    settings = shop.SimulationSettings(customers, days, seed, language, season, campaigns, visit_every_days)
    with writing("churn-radar simulate"):
        _print_written(shop.simulate(settings, _empty_raw_dir(force), home() / "truth"))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: churn-radar build --vars '{churn__horizon_days: 60}'",
)
def build(context: typer.Context) -> None:
    """Run dbt build with any of dbt's options; say in a line what is done, and at the end what came of it."""
    from inference.reporting.build import build as build_for_people

    for line in build_for_people(context.args):
        typer.echo(line)


@app.command(epilog="Example: churn-radar train --trials 10")
def train(
    trials: Annotated[int, typer.Option(min=0, help="Settings of the transformer to try, by Optuna.")] = 0,
    variables: Vars = "{}",
) -> None:
    """Train a challenger; it becomes champion only if it is better on the same later rows."""
    from inference.registry import registry
    from inference.reporting import tables

    _build(variables, churn__train="always", churn__trials=trials)
    versions = registry.versions()
    newest = versions.iloc[-1]
    typer.echo(f"Version {newest.model_version} {newest.decision.replace('_', ' ')}: {newest.reason}")
    tables.console().print(tables.model_table(versions[versions.is_champion].iloc[0]))


@app.command(cls=ReadsHome, epilog="Example: churn-radar rollback --to 3 --reason 'scores looked wrong'")
def rollback(
    to: Annotated[str | None, typer.Option(help="Version; the champion before the present one by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the table churn_model.")] = "asked for",
    variables: Vars = "{}",
) -> None:
    """Make an earlier version the champion again, and score with it."""
    from inference.registry import registry

    with writing("churn-radar rollback"):
        version = registry.rollback(to, reason)
        typer.echo(f"Version {version} is champion again; scoring by it")
        _build(variables, churn__train="never")


@app.command(epilog="Example: churn-radar embed --engine spark")
def embed(variables: Vars = "{}", engine: Engine = "") -> None:
    """Embed new texts and nothing else; an interrupted run continues where it stopped."""
    _build(variables, "--select", "+review_embeddings", engine=engine)


@app.command(epilog="Example: churn-radar score --top 10 --engine spark")
def score(top: Top = 20, variables: Vars = "{}", engine: Engine = "") -> None:
    """Build features and score every customer with the champion, without training."""
    _build(variables, engine=engine, churn__train="never")
    _print_top(top)


@app.command(cls=ReadsHome, epilog="Example: churn-radar report --top 20")
def report(
    top: Top = 20,
    compare: Annotated[
        bool, typer.Option(help="Train baselines, ablations and the shuffled control, which takes minutes.")
    ] = True,
) -> None:
    """Show the champion and the customers at highest risk; write its evaluation and explanation as HTML and JSON."""
    from inference.registry import registry
    from inference.reporting import tables

    versions, champion = registry.versions(), registry.champion()
    if champion is None:
        raise ChurnRadarError("no champion in the model registry; expected one: run dbt build first")
    console = tables.console()
    console.print(tables.model_table(versions[versions.is_champion].iloc[0]))
    if champion.model.validation is None:
        typer.echo("Too few later snapshots to report on: scores only.")
    else:
        from inference.reporting.report import champion_labels, make_report, render, write_report

        result = make_report(champion, champion_labels(), compare)
        files = write_report(result, render(result))
        console.print(tables.report_table(result))
        if result["note"]:
            typer.echo(result["note"])
        typer.echo("\n".join(str(file) for file in files))
    _print_top(top)


@app.command(cls=ReadsHome, epilog="Example: churn-radar explain 1301 --as-of 2017-12-01")
def explain(
    customer: Annotated[str, typer.Argument(help="Customer id.")],
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=DATE, help="A date with a score, which is recomputed."),
    ] = None,
) -> None:
    """Look up a customer's score and reasons online, as an application does; or recompute a past score."""
    from inference.reporting import tables

    console = tables.console()
    if as_of is not None:
        from inference.scoring.explain import explain as explain_score

        for table in tables.explanation_tables(explain_score(customer, as_of.date())):
            console.print(table)
        return
    from inference.feature_store.client import online_scores
    from inference.pseudonyms import pseudonym

    scores = online_scores([customer, pseudonym(customer)])
    if scores.empty:
        raise ChurnRadarError(f"customer {customer} has no score in the online store; run feast materialize first")
    console.print(tables.record_table(scores.iloc[0].to_dict(), f"Online: customer {customer}"))


@app.command(cls=ReadsHome, epilog="Example: churn-radar serve --port 8080")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback, CHURN_API_KEYS must be set.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate, a PEM file.", exists=True)] = None,
    private_key: Annotated[Path | None, typer.Option(help="Its private key, a PEM file.", exists=True)] = None,
) -> None:
    """Serve churn probabilities and reasons over HTTP."""
    import uvicorn

    from inference.event_log.opening import open_log
    from inference.pseudonyms import erased_customers
    from inference.serving.app import create_app
    from inference.serving.connections import Connection
    from inference.serving.keys import keys_from_environment

    open_log().close()  # one that cannot be used is refused in one line
    erased_customers()
    keys = keys_from_environment(host)
    if (certificate is None) != (private_key is None):
        raise ChurnRadarError("--certificate and --private-key belong together; expected both or neither")
    # no access log: its paths hold customer ids, and /metrics counts the requests
    uvicorn.run(
        create_app(keys),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
        http=Connection,
        ws="none",
    )


@app.command(cls=ReadsHome, epilog="Example: churn-radar notify --url json://127.0.0.1:8000/alerts --dry-run")
def notify(
    url: Annotated[
        list[str], typer.Option(help="Apprise URL in addition to CHURN_NOTIFY_URLS; may be given several times.")
    ] = [],  # noqa: B006
    top: Annotated[int, typer.Option(min=1, help="How many customers, segments and features to list at most.")] = 20,
    show_personal: Annotated[
        bool, typer.Option("--show-personal", help="Write customers' ids instead of pseudonyms.")
    ] = False,
    attempts: Annotated[int, typer.Option(min=1, help="Maximum attempts per channel.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
) -> None:
    """Send new rows of churn_alerts to each channel: Slack, e-mail, webhooks and other services of Apprise."""
    from inference.notifications import deliver

    deliver.notify(url, top, show_personal, attempts, dry_run)


@app.command(cls=ReadsHome, epilog="Example: churn-radar desk --port 8501")
def desk(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anybody who reaches it sees customers, without authentication.")
    ] = "127.0.0.1",
) -> None:
    """Show the retention desk in a browser, read-only: risk, customers, model and experiment."""
    from inference.desk import server

    if host not in LOOPBACK:
        typer.echo(
            f"Anybody who reaches {host} at port {port} sees customers: put a proxy with authentication before it"
        )
    if not published("churn_scores").exists():
        typer.echo(f"{published('churn_scores')}: no scores yet; the desk shows them after dbt build")
    server.run(host, port)


@app.command("api-key", epilog="Example: churn-radar api-key checkout --scope read --scope write")
def api_key(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[list[str], typer.Option(help="read, write, or both.")] = ["read"],  # noqa: B006
) -> None:
    """Generate a key for churn-radar serve. It is printed once; CHURN_API_KEYS holds its hash."""
    from inference.serving.keys import new_key

    secret, entry = new_key(name, scope)
    typer.echo(f"for {name}, in the header X-API-Key:\n{secret}\nto add to CHURN_API_KEYS:\n{entry}")


@app.command(cls=ReadsHome, epilog='Example: churn-radar similar "parcel came broken" --top 5')
def similar(
    text: Annotated[str, typer.Argument(help="A few words, in any language that the encoder reads.")],
    top: Annotated[int, typer.Option(min=1, help="How many texts to list.")] = 5,
) -> None:
    """Find the reviews and tickets nearest in meaning, by Feast's vector search; personal data is masked."""
    from inference.feature_store.text_search import find_similar
    from inference.reporting import tables

    tables.console().print(tables.similar_table(find_similar(text, top), f"Nearest to “{text[:60]}”"))


@app.command(cls=ReadsHome, epilog="Example: churn-radar erase --customer 1301")
def erase(
    customer: Annotated[str, typer.Option(help="The shop's own id of the customer.")],
    variables: Vars = "{}",
) -> None:
    """Erase a person from all files and tables, verify it by searching them, and write a receipt."""
    from inference.erasure.erase import erase as erase_customer

    with writing("churn-radar erase"):
        done = erase_customer(customer, _parse_vars(variables))
    for place, count in done.removed.items():
        typer.echo(f"{count:>9,} removed from {place}")
    typer.echo("Nothing found in {files:,} files ({bytes:,} bytes) and {tables:,} tables.".format(**done.searched))
    typer.echo("\n".join([*done.notes, f"Receipt: {done.receipt}"]))


@app.command(epilog="Example: churn-radar backtest --as-of 2017-12-01 --rolling 3")
def backtest(
    as_of: Annotated[
        datetime, typer.Option("--as-of", formats=DATE, help="Cut-off date: only rows before it are used.")
    ],
    rolling: Annotated[int, typer.Option(min=0, help="Also this many earlier cut-offs, four weeks apart.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    variables: Vars = "{}",
) -> None:
    """Build and score with the raw data before a date, and compare with the outcomes after it."""
    from inference.progress import track
    from inference.reporting import backtest as backtests
    from inference.reporting import tables

    dates = backtests.rolling_dates(as_of.date(), rolling)
    shown = dates if as_json else track(dates, "Backtesting")
    results = [backtests.backtest(d, _parse_vars(variables)) for d in shown]
    if as_json:
        typer.echo(json.dumps([asdict(r) for r in results], default=str, indent=2))
        return
    (console := tables.console()).print(tables.backtest_table(results[-1:]))
    if rolling:
        console.print(tables.rolling_table(results))
        console.print(tables.backtest_table(results))


def _empty_raw_dir(force: bool) -> Path:
    folder = raw_dir()
    if (folder / "orders.parquet").exists() and not force:
        raise ChurnRadarError(f"{folder / 'orders.parquet'}: there already; use --force to overwrite it")
    return folder


def _print_written(counts: dict[str, int]) -> None:
    for table, rows in counts.items():
        typer.echo(f"{rows:>9,} rows  {raw_dir() / table}.parquet")


def _print_top(top: int) -> None:
    from inference.reporting import tables

    table, as_of_date = tables.top_scores(top)
    tables.console().print(table)
    if old := old_scores(as_of_date):
        typer.echo(old)


def _build(variables: str, *select: str, engine: str = "", **overrides: object) -> None:
    """Run ``dbt build`` with the vars of the command line and others, by an engine where one is named."""
    from inference.warehouse import dbt, manifest

    if engine and engine not in manifest.ENGINES:
        raise ChurnRadarError(f"--engine is {engine}; expected {' or '.join(manifest.ENGINES)}")
    if engine == "spark" and importlib.util.find_spec("pyspark") is None:
        raise ChurnRadarError("--engine is spark, but PySpark is not installed: pip install 'churn-radar[spark]'")
    env = {"CHURN_ENGINE": engine} if engine else {}
    dbt.run("build", *select, variables={**_parse_vars(variables), **overrides}, env=env)


def _parse_vars(text: str) -> dict:
    try:
        variables = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        variables = None
    if not isinstance(variables, dict):
        raise ChurnRadarError(f"--vars is {text}; expected a YAML mapping such as {{churn__horizon_days: 60}}")
    return variables
