"""Whether two commits build the same shop: features, scores, decisions and online answers, to nine decimals.

    python benchmarks/compare_commits.py --before ddf7c3d

Checks the earlier commit out into a folder of its own with a virtual environment of its own, then builds The Complete
Journey and a simulated shop with all seven tables by both commits, from the same raw files and with the same salt, and
compares every exported table and every online score. Texts may differ in wording; they are counted, not refused.
At last the working tree builds one more day on the earlier commit's home, whose older scores must not change.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from inference.home import PROJECT_DIR
from inference.reporting.backtest import truncate_raw

#: Columns that hold the moment of the run, or the fingerprint of the project that ran.
OF_THE_RUN = {"scored_at", "manifest_hash", "trained_at", "decided_at", "loaded_at", "built_at"}
#: Columns of prose.
PROSE = {"reason", "reason_1", "reason_2", "reason_3", "message"}
TOLERANCE = 1e-9
ONLINE = """
import json, sys
from feast import FeatureStore
store = FeatureStore("feature_repo")
ids = json.load(sys.stdin)
service = store.get_feature_service("churn_scores_v1")
answer = store.get_online_features(service, [{"customer_id": i} for i in ids]).to_dict()
json.dump(dict(zip(answer["customer_id"], answer["score"])), open(sys.argv[1], "w"))
"""


def run(checkout: Path, home: Path, raw: Path, *command: str, given: str | None = None) -> None:
    """Run a command of a checkout's virtual environment on a shop; its output goes to ``build.log`` in the home."""
    env = os.environ | {
        "CHURN_HOME": str(home),
        "CHURN_RAW_DIR": str(raw),
        "CHURN_SALT": "0" * 64,
        "CHURN_ENCODER_FIDELITY": "1",  # float32: a text has the same vector in every batch
        "DBT_TARGET_PATH": str(home / "target"),
        "PYTHONPATH": str(checkout),
    }
    home.mkdir(parents=True, exist_ok=True)
    program = str(checkout / ".venv" / "bin" / command[0])
    with (home / "build.log").open("a") as log:
        done = subprocess.run(
            [program, *command[1:]], cwd=checkout, env=env, input=given, stdout=log, stderr=log, text=True, check=False
        )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed in {checkout}; see {home / 'build.log'}")


def build(checkout: Path, home: Path, raw: Path) -> None:
    """Build a shop, load its online store, and write its online answers to ``online.json``."""
    run(checkout, home, raw, "dbt", "build", "--exclude-resource-type=unit_test")
    scores = duckdb.sql(f"select customer_id, as_of_date from '{home}/published/churn_scores.parquet' order by 1").df()
    as_of = f"{scores.as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    run(checkout, home, raw, "feast", "-c", "feature_repo", "apply")
    run(checkout, home, raw, "feast", "-c", "feature_repo", "materialize", as_of, as_of)
    ids = json.dumps(sorted(set(scores.customer_id)))
    run(checkout, home, raw, "python", "-c", ONLINE, str(home / "online.json"), given=ids)


def differences(before: Path, after: Path) -> Iterator[str]:
    """One line for each table, or online answer, that differs between two homes."""
    for folder in ("features", "published"):
        for file in sorted((before / folder).glob("*.parquet")):
            other = after / folder / file.name
            yield from compare(file, other) if other.exists() else [f"{folder}/{file.name}: missing now"]
    answers = [json.loads((home / "online.json").read_text()) for home in (before, after)]
    rows = [pd.DataFrame({c: json.loads(s) for c, s in a.items() if s}).T.sort_index() for a in answers]
    yield from compare_tables("online scores", rows[0].reset_index(), rows[1].reset_index())


def compare(before: Path, after: Path) -> Iterator[str]:
    """Compare two Parquet files as sets of rows."""
    tables = [duckdb.sql(f"select * from '{file}' order by all").df() for file in (before, after)]
    yield from compare_tables(f"{before.parent.name}/{before.name}", *tables)


def compare_tables(name: str, before: pd.DataFrame, after: pd.DataFrame) -> Iterator[str]:
    """Compare two tables whose rows are in the same order."""
    if list(before.columns) != list(after.columns) or len(before) != len(after):
        yield f"{name}: {before.shape} {sorted(set(before) ^ set(after))} is now {after.shape}"
        return
    for column in before.columns:
        if column in OF_THE_RUN:
            continue
        differ = ~np.array([same(*pair) for pair in zip(before[column], after[column], strict=True)], dtype=bool)
        if differ.any() and column in PROSE:
            print(f"  {name}.{column}: {differ.sum():,} of {len(before):,} are worded otherwise")
        elif differ.any():
            row = int(np.flatnonzero(differ)[0])
            first = f"{before[column].iloc[row]!r:.80} is now {after[column].iloc[row]!r:.80}"
            yield f"{name}.{column}: {differ.sum():,} of {len(before):,} differ, the first {first}"


def same(one: object, other: object) -> bool:
    """Whether two values are equal, numbers and lists of numbers to ``TOLERANCE``."""
    if one is pd.NA or other is pd.NA:  # its comparisons are neither true nor false
        return one is other
    if isinstance(one, float | int | np.ndarray | list) and isinstance(other, type(one)):
        pair = [np.asarray(value) for value in (one, other)]
        if pair[0].shape != pair[1].shape:
            return False
        if all(np.issubdtype(value.dtype, np.number) for value in pair):
            return bool(np.allclose(*pair, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
        return bool((pair[0] == pair[1]).all())
    return bool(one == other) or bool(pd.isna(one) and pd.isna(other))


def check_next_day(before: Path, folder: Path, raw: Path) -> list[str]:
    """Build all days but the last by the earlier commit, the last by the working tree: what was scored stays."""
    home, earlier = folder / "next-day", folder / "raw-but-last-day"
    last = duckdb.sql(f"select max(cast(ordered_at as date)) from '{raw}/orders.parquet'").fetchall()[0][0]
    truncate_raw(raw, earlier, last)
    run(before, home, earlier, "dbt", "build", "--exclude-resource-type=unit_test")
    scores = home / "published" / "churn_scores.parquet"
    shutil.copy(scores, folder / "scores-before.parquet")
    run(PROJECT_DIR, home, raw, "dbt", "build", "--exclude-resource-type=unit_test")
    lost = duckdb.sql(f"from '{folder}/scores-before.parquet' except all from '{scores}'").fetchall()
    days = duckdb.sql(f"select as_of_date, count(*) from '{scores}' group by 1 order by 1").fetchall()
    print(f"  scores after the next day: {', '.join(f'{day:%Y-%m-%d} {n:,}' for day, n in days)}")
    return [f"{len(lost):,} scores of before changed on the next day"] if lost else []


def main() -> None:
    """Build by both commits and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="ddf7c3d", help="the earlier commit, or a folder in which it is installed")
    parser.add_argument("--folder", type=Path, required=True, help="where both shops are built")
    parser.add_argument("--customers", type=int, default=1500, help="of the simulated shop")
    parser.add_argument("--shop", choices=["complete-journey", "simulated"], action="append")
    arguments = parser.parse_args()
    folder, before = arguments.folder.resolve(), Path(arguments.before)
    if not before.is_dir():
        before = folder / "checkout"
        if not before.exists():
            subprocess.run(["git", "clone", "--quiet", PROJECT_DIR, before], check=True)
            subprocess.run(["git", "checkout", "--quiet", arguments.before], cwd=before, check=True)
        subprocess.run(["make", "install"], cwd=before, check=True)
    found = []
    for shop in arguments.shop or ["complete-journey", "simulated"]:
        raw = folder / shop / "raw"
        if not raw.exists():
            how = ["load-example", shop] if shop != "simulated" else ["simulate", "--customers", arguments.customers]
            run(PROJECT_DIR, folder / shop / "loaded", raw, "churn-radar", *map(str, how))
        for checkout, name in ((before, "before"), (PROJECT_DIR, "after")):
            if not (folder / shop / name / "online.json").exists():
                build(checkout.resolve(), folder / shop / name, raw)
        print(shop)
        found += [f"{shop}: {line}" for line in differences(folder / shop / "before", folder / shop / "after")]
    found += check_next_day(before.resolve(), folder / shop, raw)
    print("\n".join(found) or "no difference")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
