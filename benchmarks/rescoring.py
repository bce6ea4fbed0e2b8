"""How soon a score follows an event: after an order, and after a review with words that nobody has read yet.

    python benchmarks/rescoring.py
    python benchmarks/rescoring.py --home DIR --requests 2000

Needs ``redis-server`` (Debian package). A shop is simulated and built, its histories are materialised to a Redis on
loopback, and one client after the other sends an event and waits: the service answers when the new score is in the
store. A write of one row by Feast's own SDK, as a push ends in, is timed in the same minutes.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import requests
from rich.table import Table
from serving import free_port, listening, percentiles, timed, wait_until_ready

from inference.home import PROJECT_DIR
from inference.reporting import tables
from inference.warehouse import dbt

BIN = Path(sys.executable).parent
BUILD = ("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
WORDS = (
    "the parcel came late again and nobody answered my messages box was broken colour nice fits price went up since "
    "last year but quality still good friendly service refused to take it back will order elsewhere lamp kettle shoes "
    "headphones gift sister birthday returned twice money never arrived delivery driver left rain wet cardboard"
)


def run(*command: str) -> None:
    """Run one of the project's commands."""
    subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)


class Client:
    """Sends events of random customers, each with a word that is new."""

    def __init__(self, url: str, customers: list[str]) -> None:
        self._session, self._url, self._customers = requests.Session(), f"{url}/v1/events", customers
        self._chance, self._sent = random.Random(0), 0

    def order(self) -> None:
        """An order of two products."""
        items = [{"product_id": f"p{self._chance.randrange(500)}", "quantity": 1, "unit_price": 9.5} for _ in range(2)]
        self._send("order", order_id=self._key(), ordered_at=self._now(), amount=19.0, items=items)

    def review(self) -> None:
        """A review of about 40 tokens."""
        words = self._chance.choices(WORDS.split(), k=max(3, round(self._chance.lognormvariate(3.5, 0.4))))
        self._send("review", review_id=self._key(), reviewed_at=self._now(), review_text=" ".join(words), rating=2)

    def _key(self) -> str:
        return f"new {self._sent}"

    def _now(self) -> str:
        return (datetime.now(UTC) - timedelta(seconds=1)).isoformat()

    def _send(self, kind: str, **content: object) -> None:
        event = {"type": kind, "event_id": f"event {self._sent}", "customer_id": self._chance.choice(self._customers)}
        answer = self._session.post(self._url, json={"events": [event | content]})
        answer.raise_for_status()
        receipt = answer.json()
        if (
            receipt["accepted"] != 1
            or receipt["pending"]
            or (kind == "order" and receipt["scores"][0]["source"] != "fresh")
        ):
            raise SystemExit(f"no new score: {receipt}")
        self._sent += 1


def feast_write(customers: list[str]) -> callable:
    """Return a call that writes the score of one customer by Feast's SDK."""
    from inference.feature_store.client import SCORES_VIEW, open_store

    store, chance = open_store(), random.Random(0)
    moment = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=365)

    def write() -> None:
        row = {"customer_id": "nobody " + chance.choice(customers), "score": "{}"}
        times = {"feature_snapshot_at": moment, "scored_at": moment}
        store.write_to_online_store(SCORES_VIEW, pd.DataFrame([row | times]))

    return write


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=3000)
    parser.add_argument("--requests", type=int, default=10_000, help="events of each kind")
    parser.add_argument("--home", type=Path, help="a shop that was built before")
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed; expected Debian's package of that name")
    console, port, service = tables.console(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="churn-radar-rescoring-") as folder:
        home = Path(folder) / "home"
        if arguments.home:
            shutil.copytree(arguments.home, home, ignore=shutil.ignore_patterns("events", "feast"))
        os.environ.update(
            {**dbt.environment(home), "CHURN_REDIS": f"127.0.0.1:{port}", "CHURN_RATE_LIMIT": "1000000/second"}
        )
        if not arguments.home:
            run("churn-radar", "simulate", "--customers", str(arguments.customers), "--days", "365")
            run("dbt", *BUILD, "--vars", "{churn__transformer: false}")
        with listening(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port, dict(os.environ)
        ):
            run("dbt", "--quiet", "parse")  # a shop that was built elsewhere has its manifest there
            scores = pd.read_parquet(home / "published" / "churn_scores.parquet")
            newest = scores[scores.as_of_date == scores.as_of_date.max()]
            as_of = f"{pd.Timestamp(newest.as_of_date.iloc[0]):%Y-%m-%dT%H:%M:%S}"
            run("feast", "-c", "feature_repo", "apply", "--skip-source-validation")
            views = [word for view in ("scores", "histories", "shop") for word in ("--views", f"online_{view}")]
            run("feast", "-c", "feature_repo", "materialize", as_of, as_of, *views)
            command = [BIN / "churn-radar", "serve", "--port", str(service)]
            with listening(command, service, dict(os.environ)):
                wait_until_ready(service)
                customers = list(newest.customer_id)
                client, write = Client(f"http://127.0.0.1:{service}", customers), feast_write(customers)
                for _ in range(50):
                    client.order()
                    client.review()
                # by turns, so that a noisy minute meets all of them
                taken = timed([client.order, client.review, write], arguments.requests)
        names = ("after an order", "after a review with new words", "Feast's own write of one row")
        table = Table(title=f"From event to stored score, {arguments.requests:,} each, {len(customers):,} customers")
        for heading in ("", "p50 ms", "p99 ms", "at most, p99"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, times, target in zip(names, taken, ("25", "75", ""), strict=True):
            p50, p99 = percentiles(times)
            table.add_row(name, f"{p50:.2f}", f"{p99:.2f}", target)
        console.print(table)


if __name__ == "__main__":
    main()
