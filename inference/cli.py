"""The command line, ``churn-radar``."""

import importlib.util
import json
import sys
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
import yaml

from inference.errors import ChurnRadarError
from inference.home import LOOPBACK, PROJECT_DIR, home, published, raw_dir
from inference.progress import show_log

app = typer.Typer(
    help="Which customers are about to leave, why, and what they are worth. Commands that build do so where dbt's "
    "DBT_TARGET says: duckdb, the default, postgres or spark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Top = Annotated[int, typer.Option(min=1, help="How many customers to list.")]
Vars = Annotated[str, typer.Option("--vars", help="dbt vars as YAML, such as '{churn__horizon_days: 60}'.")]
Engine = Annotated[
    str,
    typer.Option(
        envvar="CHURN_ENGINE",
        help="What runs the models: local, this machine's own process, or spark. Not given: spark where dbt builds "
        "there, else local.",
    ),
]


def main() -> None:
    """Run the command line; what users can mend ends in one line and exit status 1."""
    show_log()
    try:
        app()
    except ChurnRadarError as error:
        typer.echo(f"churn-radar: {error}", err=True)
        sys.exit(1)


@app.command("load-example", epilog="Example: churn-radar load-example complete-journey")
def load_example(
    name: Annotated[str, typer.Argument(help="Name of the example: complete-journey.")],
    force: Annotated[bool, typer.Option(help="Overwrite raw tables that are there already.")] = False,
) -> None:
    """Write the raw tables of a public data set to CHURN_RAW_DIR."""
    example = _example(name)
    _print_written(example.write(_empty_raw_dir(force)))


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
    from inference.simulation.shop import SimulationSettings
    from inference.simulation.shop import simulate as write_shop

    settings = SimulationSettings(customers, days, seed, language, season, campaigns, visit_every_days)
    _print_written(write_shop(settings, _empty_raw_dir(force), home() / "truth"))


@app.command(epilog="Example: churn-radar train --trials 10")
def train(
    trials: Annotated[int, typer.Option(min=0, help="Settings of the transformer to try, by Optuna.")] = 0,
    variables: Vars = "{}",
) -> None:
    """Train a challenger; it becomes champion only if it is better on the same later rows."""
    from inference.registry import registry
    from inference.reporting import tables as terminal
    from inference.warehouse import dbt

    dbt.run("build", variables={**_parse_vars(variables), "churn__train": "always", "churn__trials": trials})
    versions = registry.versions()
    newest = versions.iloc[-1]
    typer.echo(f"Version {newest.model_version} {newest.decision.replace('_', ' ')}: {newest.reason}")
    terminal.console().print(terminal.model_table(versions[versions.is_champion].iloc[0]))


@app.command(epilog="Example: churn-radar rollback --to 3 --reason 'scores looked wrong'")
def rollback(
    to: Annotated[str | None, typer.Option(help="Version; the champion before the present one by default.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the table churn_model.")] = "asked for",
    variables: Vars = "{}",
) -> None:
    """Make an earlier version the champion again, and score by it."""
    from inference.registry import registry
    from inference.warehouse import dbt

    version = registry.rollback(to, reason)
    typer.echo(f"Version {version} is champion again; scoring by it")
    dbt.run("build", variables={**_parse_vars(variables), "churn__train": "never"})


@app.command(epilog="Example: churn-radar embed --engine spark")
def embed(variables: Vars = "{}", engine: Engine = "") -> None:
    """Read the texts that the encoder has not read yet, and nothing else; killed, it goes on where it stopped."""
    from inference.warehouse import dbt

    env = _engine(engine)
    dbt.run("build", "--select", "+review_embeddings", variables=_parse_vars(variables), env=env)


@app.command(epilog="Example: churn-radar score --top 10 --engine spark")
def score(top: Top = 20, variables: Vars = "{}", engine: Engine = "") -> None:
    """Build features and score every customer by the champion, without training."""
    from inference.warehouse import dbt

    env = _engine(engine)
    dbt.run("build", variables={**_parse_vars(variables), "churn__train": "never"}, env=env)
    _print_top(top)


@app.command(epilog="Example: churn-radar report --top 20")
def report(
    top: Top = 20,
    compare: Annotated[
        bool, typer.Option(help="Train baselines, ablations and the shuffled control, which takes minutes.")
    ] = True,
) -> None:
    """Show the champion and the customers at highest risk; write how good it is, and why, as HTML and JSON."""
    from inference.registry import registry
    from inference.reporting import tables as terminal

    versions = registry.versions()
    if not versions.is_champion.any():
        raise ChurnRadarError("no champion in the model registry; expected one: run dbt build first")
    console = terminal.console()
    console.print(terminal.model_table(versions[versions.is_champion].iloc[0]))
    current = registry.champion()
    if current.model.validation is None:
        typer.echo("Too few later snapshots to report on: scores only.")
    else:
        from inference.reporting.page import render
        from inference.reporting.report import champion_labels, make_report, write_report

        made = make_report(current, champion_labels(), compare)
        written = write_report(made, render(made))
        console.print(terminal.report_table(made))
        if made["note"]:
            typer.echo(made["note"])
        typer.echo("\n".join(str(file) for file in written))
    _print_top(top)


@app.command(epilog="Example: churn-radar explain 1301 --as-of 2017-12-01")
def explain(
    customer: Annotated[str, typer.Argument(help="Customer id.")],
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=["%Y-%m-%d"], help="A date that was scored: its score is computed again."),
    ] = None,
) -> None:
    """Look one customer's score and reasons up online, as an application does; or compute a past score again."""
    from inference.reporting import tables as terminal

    console = terminal.console()
    if as_of is not None:
        from inference.scoring.explain import explain as explain_score

        for table in terminal.explanation_tables(explain_score(customer, as_of.date())):
            console.print(table)
        return
    from inference.feature_store.client import online_scores
    from inference.pseudonyms import pseudonym

    found = online_scores([customer, pseudonym(customer)])
    if found.empty:
        raise ChurnRadarError(f"customer {customer} has no score in the online store; run feast materialize first")
    console.print(terminal.record_table(found.iloc[0].to_dict(), f"Online: customer {customer}"))


@app.command(epilog="Example: churn-radar serve --port 8080")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback, CHURN_API_KEYS must be set.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate, a PEM file.", exists=True)] = None,
    private_key: Annotated[Path | None, typer.Option(help="Its private key, a PEM file.", exists=True)] = None,
) -> None:
    """Answer over HTTP how likely a customer is to leave, and why."""
    import uvicorn

    from inference.serving.app import create_app
    from inference.serving.settings import settings_from_environment

    settings = settings_from_environment(host)
    if (certificate is None) != (private_key is None):
        raise ChurnRadarError("--certificate and --private-key belong together; expected both or neither")
    # no access log: its paths hold customer ids, and /metrics counts the requests
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
    )


@app.command(epilog="Example: churn-radar notify --url json://127.0.0.1:8000/alerts --dry-run")
def notify(
    url: Annotated[
        list[str], typer.Option(help="Apprise URL beside those in CHURN_NOTIFY_URLS; may be given several times.")
    ] = [],  # noqa: B006
    top: Annotated[int, typer.Option(min=1, help="How many customers, segments and features to list at most.")] = 20,
    show_personal: Annotated[
        bool, typer.Option("--show-personal", help="Write customers' ids instead of pseudonyms.")
    ] = False,
    attempts: Annotated[int, typer.Option(min=1, help="How often to try a channel that does not answer.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
) -> None:
    """Send each channel what it has not been sent of churn_alerts: Slack, e-mail, webhooks and the rest of Apprise."""
    from inference.notifications import deliver

    deliver.notify(url, top, show_personal, attempts, dry_run)


@app.command(epilog="Example: churn-radar desk --port 8501")
def desk(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    host: Annotated[
        str, typer.Option(help="Address to listen on; whoever reaches it sees customers, nobody is asked who they are.")
    ] = "127.0.0.1",
) -> None:
    """Show the retention desk in a browser: risk, customers, model and experiment; it changes nothing."""
    from inference.desk import server

    if host not in LOOPBACK:
        typer.echo(
            f"Whoever reaches {host} at port {port} sees customers: put a proxy that asks who they are before it"
        )
    if not published("churn_scores").exists():
        typer.echo(f"{published('churn_scores')}: no scores yet; the desk shows them after dbt build")
    server.run(host, port)


@app.command("api-key", epilog="Example: churn-radar api-key checkout --scope read --scope write")
def api_key(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    scope: Annotated[list[str], typer.Option(help="read, write, or both.")] = ["read"],  # noqa: B006
) -> None:
    """Make a key for churn-radar serve. It is printed once; CHURN_API_KEYS holds its hash."""
    from inference.serving.keys import new_key

    secret, entry = new_key(name, scope)
    typer.echo(f"for {name}, in the header X-API-Key:\n{secret}\nto add to CHURN_API_KEYS:\n{entry}")


@app.command(epilog='Example: churn-radar similar "parcel came broken" --top 5')
def similar(
    text: Annotated[str, typer.Argument(help="A few words, in any language that the encoder reads.")],
    top: Annotated[int, typer.Option(min=1, help="How many texts to list.")] = 5,
) -> None:
    """Find the reviews and tickets nearest in meaning, by Feast's vector search; personal data is masked."""
    from inference.feature_store.text_search import find_similar
    from inference.reporting import tables as terminal

    terminal.console().print(terminal.similar_table(find_similar(text, top), f"Nearest to “{text[:60]}”"))


@app.command(epilog="Example: churn-radar erase --customer 1301")
def erase(
    customer: Annotated[str, typer.Option(help="The shop's own id of the customer.")],
    variables: Vars = "{}",
) -> None:
    """Remove a person from all that is kept, verify it by searching every file, and write a receipt."""
    from inference.erasure.erase import erase as erase_customer

    done = erase_customer(customer, _parse_vars(variables))
    for place, count in done.removed.items():
        typer.echo(f"{count:>9,} removed from {place}")
    typer.echo("Nothing found in {files:,} files ({bytes:,} bytes) and {tables:,} tables.".format(**done.searched))
    typer.echo("\n".join([*done.notes, f"Receipt: {done.receipt}"]))


@app.command(epilog="Example: churn-radar backtest --as-of 2017-12-01 --rolling 3")
def backtest(
    as_of: Annotated[
        datetime, typer.Option("--as-of", formats=["%Y-%m-%d"], help="Cut-off: only rows before it are used.")
    ],
    rolling: Annotated[int, typer.Option(min=0, help="Also this many earlier cut-offs, four weeks apart.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    variables: Vars = "{}",
) -> None:
    """Cut the raw data off at a date, build and score from that, and compare with what happened after."""
    from inference.progress import track
    from inference.reporting import tables as terminal
    from inference.reporting.backtest import backtest as run_backtest
    from inference.reporting.backtest import rolling_dates

    dates = rolling_dates(as_of.date(), rolling)
    results = [run_backtest(d, _parse_vars(variables)) for d in track(dates, "Backtesting")]
    if as_json:
        typer.echo(json.dumps([asdict(r) for r in results], default=_json_date, indent=2))
        return
    console = terminal.console()
    console.print(terminal.backtest_table(results[-1:]))
    if rolling:
        console.print(terminal.rolling_table(results))
        console.print(terminal.backtest_table(results))


def _empty_raw_dir(force: bool) -> Path:
    folder = raw_dir()
    if (folder / "orders.parquet").exists() and not force:
        raise ChurnRadarError(f"{folder / 'orders.parquet'}: there already; use --force to overwrite it")
    return folder


def _print_written(counts: dict[str, int]) -> None:
    for table, rows in counts.items():
        typer.echo(f"{rows:>9,} rows  {raw_dir() / table}.parquet")


def _print_top(top: int) -> None:
    import duckdb

    from inference.reporting import tables as terminal

    file = published("churn_scores")
    if not file.exists():
        raise ChurnRadarError(f"{file}: no scores yet; run dbt build first")
    scores = duckdb.sql(
        f"""
        select * from read_parquet('{file}')
        qualify dense_rank() over (order by as_of_date desc) = 1
            and row_number() over (partition by customer_id order by scored_at desc) = 1
        order by churn_probability desc, customer_id
        """
    ).df()
    title = (
        f"The {min(top, len(scores))} customers at highest risk of {len(scores):,}, as of "
        f"{scores.as_of_date.iloc[0]:%Y-%m-%d}: no order in the next {scores.horizon_days.iloc[0]} days"
    )
    terminal.console().print(terminal.scores_table(scores.head(top), title))


def _example(name: str) -> ModuleType:
    files = {path.stem.replace("_", "-"): path for path in sorted((PROJECT_DIR / "examples").glob("*.py"))}
    if name not in files:
        raise ChurnRadarError(f"no example is named {name}; expected one of {', '.join(files)}")
    spec = importlib.util.spec_from_file_location(files[name].stem, files[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _engine(name: str) -> dict[str, str]:
    """Return the variable that tells dbt's process of an engine, where one is named and can be used."""
    from inference.warehouse.manifest import ENGINES

    if name and name not in ENGINES:
        raise ChurnRadarError(f"--engine is {name}; expected {' or '.join(ENGINES)}")
    if name == "spark" and importlib.util.find_spec("pyspark") is None:
        raise ChurnRadarError("--engine is spark, but PySpark is not installed: pip install 'churn-radar[spark]'")
    return {"CHURN_ENGINE": name} if name else {}


def _parse_vars(text: str) -> dict:
    try:
        variables = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        variables = None
    if not isinstance(variables, dict):
        raise ChurnRadarError(f"--vars is {text}; expected a YAML mapping such as {{churn__horizon_days: 60}}")
    return variables


def _json_date(value: object) -> str:
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(type(value))
