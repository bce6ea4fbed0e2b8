"""``feast materialize`` and ``churn-radar erase``, killed at random moments (make prove): nothing lost, nothing torn.

pytest tests/prove/test_home_kills.py -s
"""

import os
import random
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from arrivals import TABLES, TEXT_TABLES, differences, save
from shop import BIN, PROJECT, Shop
from test_privacy import AS_OF, NO_TESTS, build_online, holding, traces

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog
from inference.realtime.online_store import OnlineStore

ONLINE = "feast/online.db"
KILLS = int(os.environ.get("CHURN_KILLS", "10"))
#: What a customer and others have besides their own rows.
VIEWS = ("online_scores", "online_histories")
BUILT = (*TABLES, *TEXT_TABLES, "churn_predictions", "retention_recommendations")
NEXT_DAY = f"{pd.Timestamp(AS_OF) + pd.Timedelta(days=1):%Y-%m-%d}"
MATERIALIZE = ("feast", "-c", "feature_repo", "materialize", f"{NEXT_DAY}T00:00:00", f"{NEXT_DAY}T00:00:00")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Shop, str]:
    """A shop with its online store and events, and a customer who has everything."""
    shop = Shop(tmp_path_factory.mktemp("kills") / "home")
    leaver = build_online(shop)
    log = SqliteEventLog(shop.home / "events" / "log.db")
    others = shop.scores().customer_id[shop.scores().customer_id != leaver].tolist()
    for number in range(40):
        customer = others[number // 2] if number % 2 else leaver
        order = {"order_id": f"new {number}", "customer_id": customer, "ordered_at": f"{AS_OF}T10:00:00", "amount": 5.0}
        log.append_all([[Event(f"event {number}", customer, {"orders": [order]})]])
    log.close()
    return shop, leaver


def killed(shop: Shop, seconds: float, *command: str, after: Path | None = None) -> tuple[bool, float]:
    """Run a command and kill it after seconds; return whether it was still running, and for how long it ran.

    With ``after`` the seconds begin when that file changes.
    """
    arguments = [str(BIN / command[0]), *command[1:]]
    before = after and after.stat().st_mtime_ns
    with subprocess.Popen(
        arguments, cwd=PROJECT, env=shop.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while after and after.stat().st_mtime_ns == before and process.poll() is None:
            time.sleep(0.001)
        started = time.monotonic()
        try:
            assert process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait() != 0, time.monotonic() - started


def copy_of(shop: Shop, folder: Path) -> Shop:
    shutil.copytree(shop.home, folder, symlinks=True)
    return replace(shop, home=folder)


def stored(shop: Shop, customers: list[str], monkeypatch) -> list:
    """Rows of the online store, as the service reads them."""
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    store = OnlineStore()
    return [row for view in VIEWS for row in store.read(view, customers)]


def test_a_killed_materialisation_stores_whole_rows_and_the_next_one_the_others(built, tmp_path, monkeypatch, capsys):
    shop = copy_of(built[0], tmp_path / "home")
    shop.dbt("build", *NO_TESTS, churn__transformer=False, churn__as_of_date=NEXT_DAY)
    undisturbed = copy_of(shop, tmp_path / "undisturbed")
    _, seconds = killed(undisturbed, 600, *MATERIALIZE, after=undisturbed.home / ONLINE)
    customers = sorted(shop.scores().customer_id.unique())
    before, after = (stored(of, customers, monkeypatch) for of in (shop, undisturbed))
    rng, moments, n_killed, n_mixed = random.Random(1), [], 0, 0
    for number in range(KILLS):
        one = copy_of(shop, tmp_path / str(number))
        moments.append(rng.uniform(0, seconds))
        n_killed += killed(one, moments[-1], *MATERIALIZE, after=one.home / ONLINE)[0]
        rows = stored(one, customers, monkeypatch)
        for old, new, row in zip(before, after, rows, strict=True):
            assert row in (old, new)
        n_mixed += rows not in (before, after)
        one.run(*MATERIALIZE)
        assert stored(one, customers, monkeypatch) == after
        shutil.rmtree(one.home)
    assert before != after
    with capsys.disabled():
        print(
            f"\n{n_killed} of {KILLS} materialisations killed between {min(moments):.2f} and {max(moments):.2f} of "
            f"{seconds:.2f} s of writing, {n_mixed} with a part of {len(after)} rows stored"
        )


def test_a_killed_erasure_harms_nobody_and_is_completed_by_the_next_one(built, tmp_path, capsys):
    shop, leaver = built
    command = ("churn-radar", "erase", "--customer", leaver)
    undisturbed = copy_of(shop, tmp_path / "undisturbed")
    _, seconds = killed(undisturbed, 600, *command)
    expected = save(undisturbed, tmp_path / "expected", BUILT)
    n_killed, n_known, moments = 0, 0, []
    for number, rng in enumerate(map(random.Random, range(KILLS))):
        one = copy_of(shop, tmp_path / str(number))
        moments.append(rng.uniform(seconds / 4, seconds))
        n_killed += killed(one, moments[-1], *command)[0]
        others = one.scores()[one.scores().customer_id != leaver].reset_index(drop=True)
        pd.testing.assert_frame_equal(others, undisturbed.scores())
        done = one.run(*command).stdout
        assert "Nothing found in " in done
        n_known += "removed from" in done
        assert holding(one.home, *traces(leaver)) == set()
        assert len(list((one.home / "erasures").glob("*.json"))) >= 1
        assert differences(save(one, tmp_path / f"tables {number}", BUILT), expected, BUILT) == {}
        log = SqliteEventLog(one.home / "events" / "log.db")
        assert sum(1 for _ in log.since()) == 20
        log.close()
        shutil.rmtree(one.home)
    with capsys.disabled():
        print(
            f"\n{n_killed} of {KILLS} erasures killed between {min(moments):.1f} and {max(moments):.1f} "
            f"of {seconds:.1f} s; {n_known} times the next one found more to remove"
        )
