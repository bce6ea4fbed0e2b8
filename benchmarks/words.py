"""What texts add to the score of a simulated shop, what other customers' texts add, and what is quoted.

    python benchmarks/words.py --customers 20000 --seed 777

The same shop three times: with its texts, without any, and with its texts shuffled between customers. Each is
built by ``dbt build`` and judged by ``churn-radar report`` on the same later snapshots, as any shop is. Then the
hidden truth names customers who left because of an incident known only from a text, and their reasons are searched
for a quote of that review or ticket. Takes an hour on two cores.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from difflib import SequenceMatcher
from pathlib import Path

import pandas as pd
from rich.table import Table

from inference.home import PROJECT_DIR
from inference.reporting import tables
from inference.simulation.shop import SimulationSettings, simulate
from inference.simulation.words import ENGLISH
from inference.text.pooling import WINDOW_DAYS
from inference.warehouse import dbt

#: Kinds of shops and their labels.
SHOPS = {"own": "its texts", "none": "without texts", "shuffled": "texts shuffled between customers"}
#: Text columns of raw tables.
TEXTS = {"reviews": "review_text", "support_tickets": "ticket_text"}
#: Minimum length of a quote about an incident, in characters, without side remarks.
MIN_CHARACTERS = 12


def make_shop(home: Path, kind: str, settings: SimulationSettings) -> dict:
    """Simulate, change the texts, build and report.

    Returns
    -------
    dict
        The report.
    """
    raw = home / "raw"
    if not (home / "published" / "report.json").exists():
        if not (raw / "orders.parquet").exists():
            simulate(settings, raw, home / "truth")
            for table, column in TEXTS.items():
                change_texts(raw / f"{table}.parquet", column, kind)
        run(home, "dbt", "build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
        run(home, "churn-radar", "report", "--no-compare", "--top", "1")
    return json.loads((home / "published" / "report.json").read_text())


def change_texts(file: Path, column: str, kind: str) -> None:
    """Empty or shuffle the texts of a raw table."""
    if kind == "own":
        return
    table = pd.read_parquet(file)
    text = table[column].sample(frac=1, random_state=0).to_numpy() if kind == "shuffled" else ""
    table.assign(**{column: text}).to_parquet(file, index=False)


def run(home: Path, *command: str) -> None:
    """Run one of the project's commands on a shop; its output goes to ``$CHURN_HOME/benchmark.log``."""
    env = os.environ | dbt.environment(home)
    with (home / "benchmark.log").open("a") as log:
        program = str(Path(sys.executable).with_name(command[0]))
        subprocess.run([program, *command[1:]], cwd=PROJECT_DIR, env=env, stdout=log, stderr=log, check=True)


def quotes_of_incidents(home: Path, wanted: int) -> pd.DataFrame:
    """Search the reasons of customers who left for quotes of the incident that made them leave.

    Returns
    -------
    DataFrame
        One row per customer: ``text`` with the incident, ``quotes`` and ``quoted``.
    """
    scores = pd.read_parquet(home / "published" / "churn_scores.parquet")
    as_of_date = pd.Timestamp(scores.as_of_date.max())
    scores = scores[pd.to_datetime(scores.as_of_date) == as_of_date].set_index("customer_id")
    incidents = pd.read_parquet(home / "truth" / "incidents.parquet").query("words_only and caused_leaving")
    texts = pd.concat([written(home, "reviews"), written(home, "support_tickets")])
    incidents = incidents.assign(text_id=incidents.review_id.fillna(incidents.ticket_id))
    known = incidents.merge(texts, on=["customer_id", "text_id"])
    # older texts are not in the pooled embedding; days without activity already show the risk
    lately = known.written_at.between(as_of_date - pd.Timedelta(days=WINDOW_DAYS), as_of_date)
    known = known[known.customer_id.isin(scores.index) & lately]
    known = known.drop_duplicates("customer_id").sort_values("customer_id")
    known = known.sample(min(wanted, len(known)), random_state=0).set_index("customer_id")
    reasons = scores.loc[known.index, ["reason_1", "reason_2", "reason_3"]].fillna("")
    known["quotes"] = [[q for reason in row for q in re.findall("“(.+?)”", reason)] for row in reasons.to_numpy()]
    known["quoted"] = [
        any(is_of_incident(q, text) for q in quotes) for quotes, text in zip(known.quotes, known.text, strict=True)
    ]
    return known


def written(home: Path, table: str) -> pd.DataFrame:
    """Texts of a raw table with their ids and times."""
    names = {"reviews": ("review_id", "reviewed_at"), "support_tickets": ("ticket_id", "opened_at")}[table]
    columns = dict(zip((*names, TEXTS[table]), ("text_id", "written_at", "text"), strict=True))
    return pd.read_parquet(home / "raw" / f"{table}.parquet").rename(columns=columns)[
        ["customer_id", *columns.values()]
    ]


def is_of_incident(quote: str, text: str) -> bool:
    """Whether a quote is from a text and contains more than its side remarks."""
    parts = [part.strip() for part in re.split(r"\[[\w-]+\]|…", quote)]
    if not all(part in text for part in parts):
        return False
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(parts))
    return sum(len(s) for s in sentences if not any(alike(s, aside) for aside in ENGLISH.asides)) >= MIN_CHARACTERS


def alike(a: str, b: str) -> bool:
    """Whether two sentences are equal except for typos."""
    return SequenceMatcher(None, a.lower(), b.lower()).ratio() > 0.8


def shops_table(reports: dict[str, dict]) -> Table:
    """AUROC and log-loss of the score and the best member in each shop."""
    table = Table(title=f"Newest of {len(reports['own']['model']['snapshots'])} later snapshots, and all of them")
    for name in ("", "average of", "AUROC, newest (95 %)", "AUROC, all (95 %)", "log-loss"):
        table.add_column(name, justify="left" if name in ("", "average of") else "right")
    for kind, report in reports.items():
        best = max(report["members"], key=lambda m: m["newest"]["auroc"])
        for about, score in ((SHOPS[kind], report["members"][0]), ("  its best: " + best["name"], best)):
            average = ", ".join(report["model"]["average"]) if score is report["members"][0] else ""
            newest = interval(score["newest"])
            table.add_row(about, average, newest, interval(score), f"{score['log_loss']:.4f}")
    return table


def interval(score: dict) -> str:
    """AUROC with its interval."""
    return f"{score['auroc']:.4f} ({score['auroc_low']:.4f}-{score['auroc_high']:.4f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=540)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--quotes", type=int, default=50, help="how many customers' reasons are searched")
    parser.add_argument("--home", type=Path, help="keep the shops here; what is there is not built again")
    arguments = parser.parse_args()
    folder = arguments.home or Path(tempfile.mkdtemp(prefix="churn-radar-words-"))
    settings = SimulationSettings(arguments.customers, arguments.days, arguments.seed)
    reports = {}
    for kind in SHOPS:
        home = folder / kind
        home.mkdir(parents=True, exist_ok=True)
        if kind == "shuffled" and not (home / "embeddings").exists():
            # the same texts, which need no encoding
            shutil.copytree(folder / "own" / "embeddings", home / "embeddings")
        reports[kind] = make_shop(home, kind, settings)
    console = tables.console()
    console.print(f"{arguments.customers:,} customers, {arguments.days} days, seed {arguments.seed}")
    console.print(shops_table(reports))
    for kind in ("own", "shuffled"):
        model = reports[kind]["model"]
        gains = {"text embeddings": model["words_gain"]} | {
            f"transformer, {name}": gain for name, gain in (model["transformer_gains"] or {}).items()
        }
        for name, gain in gains.items():
            if gain:
                text = f"{gain['mean']:+.5f} ({gain['low']:+.5f} to {gain['high']:+.5f})"
                console.print(f"{SHOPS[kind]}: {name} lower the log-loss by {text}")
        console.print(f"{SHOPS[kind]}: texts are {'on' if model['reads_words'] else 'off'}")
    known = quotes_of_incidents(folder / "own", arguments.quotes)
    missed = known[~known.quoted]
    for customer, row in missed.head(5).iterrows():
        console.print(f"not quoted: {customer}: {row.text!r}; quoted: {row.quotes}")
    console.print(
        f"{known.quoted.sum()} of {len(known)} customers who left because of an incident known only from a text of the "
        f"last {WINDOW_DAYS} days have a quote of it among their reasons"
    )
    if arguments.home is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
