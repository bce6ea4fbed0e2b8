"""A service under a steady mixed load for an hour, with nightly builds beside it: memory, times, files and answers.

CHURN_SOAK_MINUTES=60 pytest tests/prove/test_soak.py -s

The first sixth of the time is warm-up, with a nightly build. Quarters of the rest are compared; builds begin with the
second and the third one, and requests that were due during a build are compared by their answers alone.
"""

import itertools
import math
import os
import random
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
import requests
from service import BOTH, KEYS, serving
from shop import Shop
from test_online_scores import materialize

from inference.event_log.events import Event
from inference.event_log.sqlite_log import SqliteEventLog

MINUTES = float(os.environ.get("CHURN_SOAK_MINUTES", "60"))
N_LOGGED = int(os.environ.get("CHURN_LOGGED_EVENTS", "100000"))
N_CUSTOMERS = 1000
#: Requests a second, their kinds by share, and the threads that send them.
RATE, N_THREADS = 40, 8
SHARES = {
    "read": 50,
    "read of 100": 10,
    "browsing": 15,
    "order": 6,
    "review": 2,
    "ticket": 1,
    "10 events": 2,
    "metrics": 4,
    "healthz": 4,
    "readyz": 2,
    "unknown": 2,
    "no key": 2,
}
#: Kinds whose times are compared.
TIMED = ("read", "read of 100", "browsing", "order")
#: Largest growth of memory and of the 99th percentile.
MEMORY, P99 = 1.02, 1.2
#: Bytes of the log, of the online store and of the whole home per event, and of a write-ahead file.
LOG_BYTES, STORE_BYTES, HOME_BYTES, WAL_BYTES = 2_000, 4_000, 10_000, 8_000_000
BUILD = ("dbt", "build", "--exclude-resource-type", "unit_test", "--vars", "{churn__transformer: false}")
WORDS = ["late", "parcel", "broken", "box", "kind", "staff", "soft", "shoes", "price", "too", "high", "never", "again"]


class Answer(NamedTuple):
    """One request: when it was due, seconds since the beginning, and milliseconds from then until its answer."""

    due: float
    kind: str
    taken: float


class Load:
    """Requests of all kinds at a steady rate, until it is stopped; what is answered unexpectedly is kept."""

    def __init__(self, url: str, customers: list[str]) -> None:
        self.url, self._customers = url, customers
        self.answers: list[Answer] = []
        self.unexpected: Counter[str] = Counter()
        self.n_events = 0
        self._stop = threading.Event()
        self.started = time.perf_counter()
        threads = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(N_THREADS)]
        for thread in threads:
            thread.start()
        self._threads = threads

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def _send(self, thread: int) -> None:
        rng, session = random.Random(thread), requests.Session()
        run = f"{os.getpid()} {self.started}"
        for number in itertools.count(thread, N_THREADS):
            due = number / RATE
            if self._stop.wait(max(due - self.seconds(), 0)):
                return
            (kind,) = rng.choices(list(SHARES), SHARES.values())
            try:
                self._ask(session, kind, rng, f"{run} {number}")
            except requests.RequestException as error:
                self.unexpected[f"{kind}: {type(error).__name__}"] += 1
            except AssertionError as error:
                self.unexpected[f"{kind}: {str(error).splitlines()[0][:300]}"] += 1
            self.answers.append(Answer(due, kind, 1e3 * (self.seconds() - due)))

    def _ask(self, session: requests.Session, kind: str, rng: random.Random, key: str) -> None:
        def get(path: str, secret: str | None = BOTH) -> requests.Response:
            return session.get(self.url + path, headers={"X-API-Key": secret} if secret else {}, timeout=10)

        def post(path: str, body: dict) -> requests.Response:
            return session.post(self.url + path, headers={"X-API-Key": BOTH}, json=body, timeout=10)

        customer = rng.choice(self._customers)
        if kind == "read":
            answer = get(f"/v1/customers/{customer}/churn")
            assert (answer.status_code, answer.json().get("customer_id")) == (200, customer), answer.text
        elif kind == "read of 100":
            answer = post("/v1/churn:batch", {"customer_ids": rng.sample(self._customers, 100)})
            assert (answer.status_code, len(answer.json().get("scores", ()))) == (200, 100), answer.text
        elif kind in ("unknown", "no key"):
            answer = get("/v1/customers/nobody/churn", BOTH if kind == "unknown" else None)
            assert answer.status_code == (404 if kind == "unknown" else 401), answer.text
        elif kind in ("metrics", "healthz", "readyz"):
            assert (answer := get(f"/{kind}")).status_code == 200, answer.text
        else:
            n = 10 if kind == "10 events" else 1
            events = [event(kind if n == 1 else "browsing", customer, f"{key} {i}", rng) for i in range(n)]
            answer = post("/v1/events", {"events": events})
            assert (answer.status_code, answer.json().get("accepted")) == (200, n), answer.text
            self.n_events += n

    def p99_of(self, kind: str, begin: float, end: float, without: Sequence[tuple[float, float]] = ()) -> float:
        taken = [
            a.taken for a in self.answers if a.kind == kind and begin <= a.due < end and not within(a.due, without)
        ]
        return p99(taken)


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else math.nan


def within(moment: float, windows: Sequence[tuple[float, float]]) -> bool:
    return any(begin <= moment < end for begin, end in windows)


def event(kind: str, customer: str, key: str, rng: random.Random) -> dict:
    """An event of a kind that happened a second ago."""
    now = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    words = " ".join(rng.choices(WORDS, k=20))
    items = [{"product_id": f"p{rng.randrange(50)}", "quantity": 1, "unit_price": 9.5, "category": "home"}]
    own = {
        "order": {"order_id": key, "ordered_at": now, "amount": 9.5, "items": items},
        "browsing": {"event_type": rng.choice(["view", "search", "cart_add"]), "occurred_at": now, "session_id": key},
        "review": {"review_id": key, "reviewed_at": now, "review_text": words, "rating": rng.randrange(1, 6)},
        "ticket": {"ticket_id": key, "opened_at": now, "topic": "delivery", "ticket_text": words},
    }
    return {"type": kind, "event_id": key, "customer_id": customer, **own[kind]}


def nightly(shop: Shop) -> None:
    shop.run(*BUILD)
    materialize(shop)


def bytes_of(folder: Path) -> Counter[str]:
    """Size of each file and folder of a home."""
    sizes: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if file.is_file():
            parts = file.relative_to(folder).parts
            sizes["/".join(parts[: 2 if parts[0] in ("events", "feast") else 1])] += file.stat().st_size
    return sizes


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Shop:
    """A simulated shop whose last day is yesterday, built and materialised."""
    shop = Shop(tmp_path_factory.mktemp("soak") / "home", settings={"CHURN_API_KEYS": KEYS})
    shop.run("churn-radar", "simulate", "--customers", str(N_CUSTOMERS), "--days", "200", "--seed", "9")
    tables = {file.stem: pd.read_parquet(file) for file in shop.raw.glob("*.parquet")}
    days = pd.Timestamp.now().normalize() - tables["orders"].ordered_at.max().normalize() - pd.Timedelta(days=1)
    for table in tables.values():
        for column in table.select_dtypes("datetime"):
            table[column] += days
    shop.write(**tables)
    nightly(shop)
    return shop


@pytest.fixture(scope="module")
def customers(shop: Shop) -> list[str]:
    scores = shop.scores()
    return list(scores[scores.as_of_date == scores.as_of_date.max()].customer_id)


def test_a_service_under_steady_load_stays_as_it_is(shop, customers):
    warm, quarter = MINUTES * 10, MINUTES * 12.5
    starts = [warm + i * quarter for i in range(4)]
    nights: list[tuple[float, float]] = []
    memory: list[tuple[float, float]] = []
    sizes: list[Counter[str]] = []
    wal = 0

    with serving(shop) as service:
        service.wait_until_ready()
        process = psutil.Process(service.process.pid)
        load = Load(service.url, customers)

        def build_nightly() -> None:
            for start in (warm / 4, starts[1], starts[2]):
                time.sleep(max(start - load.seconds(), 0))
                begun = load.seconds()
                nightly(shop)
                nights.append((begun, load.seconds() + 2))
                sizes.append(bytes_of(shop.home) + Counter({"events accepted": load.n_events}))

        with ThreadPoolExecutor(1) as thread:
            built = thread.submit(build_nightly)
            while load.seconds() < starts[3] + quarter:
                time.sleep(1)
                memory.append((load.seconds(), process.memory_info().rss / 2**20))
                files = [shop.home / "events" / "log.db-wal", shop.home / "feast" / "online.db-wal"]
                wal = max([wal, *(file.stat().st_size for file in files if file.exists())])
            load.stop()
            built.result()
        sizes.append(bytes_of(shop.home) + Counter({"events accepted": load.n_events}))
        opened, threads = process.num_fds(), process.num_threads()
    output = service.process.stdout.read()
    report(load, starts, quarter, nights, memory, sizes, wal)
    print(f"open files {opened}, threads {threads}")
    assert load.unexpected == {}
    assert not re.search("Traceback|ERROR|WARNING", output), output
    first, last = (mean_memory(memory, begin, begin + quarter / 2) for begin in (warm, starts[3] + quarter / 2))
    assert last < MEMORY * first
    for kind in TIMED:
        before, after = (load.p99_of(kind, start, start + quarter, nights) for start in (starts[0], starts[3]))
        assert after < P99 * before, kind
    assert wal < WAL_BYTES
    logged, stored = (
        sum(size for name, size in sizes[-1].items() if name.startswith(f)) for f in ("events/log", "feast/online")
    )
    assert logged < LOG_BYTES * load.n_events + WAL_BYTES
    n_since = load.n_events - sizes[0]["events accepted"]
    assert stored - sizes[0]["feast/online.db"] < STORE_BYTES * n_since
    assert sizes[-1].total() - sizes[0].total() < HOME_BYTES * n_since


def mean_memory(memory: list[tuple[float, float]], begin: float, end: float) -> float:
    return statistics.median(mb for moment, mb in memory if begin <= moment < end)


def report(load, starts, quarter, nights, memory, sizes, wal) -> None:
    """Print what was measured."""
    print(
        f"\n{len(load.answers):,} requests in {load.seconds():.0f} s at {RATE} a second, {load.n_events:,} events; ",
        end="",
    )
    print(f"unexpected: {dict(load.unexpected) or 'none'}")
    print("builds:", ", ".join(f"{begin:.0f} to {end:.0f} s" for begin, end in nights))
    print("p99 in ms by quarter, outside of builds; in builds; ratio of the last and the first quarter")
    for kind in SHARES:
        quarters = [load.p99_of(kind, start, start + quarter, nights) for start in starts]
        built = [a.taken for a in load.answers if a.kind == kind and within(a.due, nights)]
        row = " ".join(f"{value:8.2f}" for value in (*quarters, p99(built)))
        print(f"  {kind:12} {row} {quarters[3] / quarters[0]:6.2f}")
    quarters = [mean_memory(memory, start, start + quarter) for start in starts]
    print("resident memory by quarter, MiB:", " ".join(f"{mb:.1f}" for mb in quarters), f"; largest WAL {wal:,} bytes")
    print("bytes after each build and at the end")
    for name in sorted(set().union(*sizes)):
        print(f"  {name:32}", " ".join(f"{size[name]:>14,}" for size in sizes))


def test_a_restart_under_load_reads_at_once(shop, customers):
    """A hundred thousand events that no build has read, and a service that is killed while it scores them."""
    happened = {"event_type": "view", "occurred_at": f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"}
    with closing(SqliteEventLog(shop.home / "events" / "log.db")) as log:
        for start in range(0, N_LOGGED, 1000):
            keys = [(f"logged {i}", customers[i % len(customers)]) for i in range(start, min(start + 1000, N_LOGGED))]
            rows = [{"event_id": key, "customer_id": customer, **happened} for key, customer in keys]
            log.append_all([[Event(row["event_id"], row["customer_id"], {"events": [row]}) for row in rows]])
    read = f"/v1/customers/{customers[0]}/churn"
    with serving(shop) as service:
        wait_until(lambda: service.get(read).status_code == 200)
        load = Load(service.url, customers)
        time.sleep(5)
        behind = service.get("/readyz").json()["customers_behind"]
        service.process.kill()
    started, taken = time.monotonic(), {}
    with serving(shop) as service:
        load.url = service.url
        for what, done in {
            "/healthz answers": lambda: service.get("/healthz").status_code == 200,
            "a score is read": lambda: service.get(read).status_code == 200,
            "/readyz answers": lambda: service.get("/readyz").status_code == 200,
            "scores follow events": lambda: service.get("/readyz").json()["status"] != "stored scores",
        }.items():
            wait_until(done)
            taken[what] = time.monotonic() - started
        load.stop()
        service.wait_until_ready(300)
        taken["nobody is behind"] = time.monotonic() - started
    print(f"\n{N_LOGGED:,} events that no build has read, {behind} customers behind, {RATE} requests a second:")
    print("\n".join(f"  {what:22} after {seconds:6.2f} s" for what, seconds in taken.items()))
    print(f"  answers meanwhile: {dict(load.unexpected)}")
    assert all(answer.endswith("ConnectionError") or '"status":503' in answer for answer in load.unexpected)
    assert taken["/healthz answers"] <= taken["a score is read"] <= taken["nobody is behind"]


def wait_until(done: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(requests.RequestException, KeyError):
            if done():
                return
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")
