"""A service killed while receiving events loses no acknowledged event and counts none twice.

pytest tests/prove/test_event_kills.py -s; CHURN_KILL_EVENTS and CHURN_KILLS set the numbers.
"""

import os
import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import requests
from service import serving
from shop import Shop
from test_online_scores import materialize

from inference.event_log.sqlite_log import SqliteEventLog
from inference.realtime.online_store import OnlineStore
from inference.realtime.rescorer import Rescorer
from inference.realtime.score import features_at

N_EVENTS = int(os.environ.get("CHURN_KILL_EVENTS", "10000"))
N_KILLS = int(os.environ.get("CHURN_KILLS", "20"))
N_WRITERS = 8
BUILD = ("dbt", "build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "test")
WITHOUT_TRANSFORMER = ("--vars", "{churn__transformer: false}")


class Writers:
    """Threads that each send one order at a time and retry until it is acknowledged."""

    def __init__(self, customers: list[str]) -> None:
        self.url: str | None = None
        self.acknowledged: Counter[str] = Counter()
        self.retried = 0
        self._lock, self._next = threading.Lock(), 0
        self._customers = customers
        self.threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(N_WRITERS)]

    def _write(self, seed: int) -> None:
        rng, session = random.Random(seed), requests.Session()
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= N_EVENTS:
                return
            customer = rng.choice(self._customers)
            event = {"type": "order", "event_id": f"e{number}", "customer_id": customer, "order_id": f"e{number}"}
            event |= {"ordered_at": datetime.now(UTC).isoformat(), "amount": 10.0}
            while True:
                try:
                    answer = session.post(f"{self.url}/v1/events", json={"events": [event]}, timeout=10)
                    assert answer.status_code == 200, answer.text
                    break
                except requests.RequestException:
                    self.retried += 1
                    time.sleep(0.2)
            with self._lock:
                self.acknowledged[customer] += 1

    @property
    def n_done(self) -> int:
        return sum(self.acknowledged.values())


def test_every_acknowledged_event_is_reflected_exactly_once(tmp_path, monkeypatch):
    shop = Shop(tmp_path / "home", settings={"CHURN_RATE_LIMIT": "100000/second"})
    shop.run("churn-radar", "simulate", "--customers", "400", "--days", "200", "--seed", "9")
    shop.run(*BUILD, *WITHOUT_TRANSFORMER)
    materialize(shop)
    before = shop.table("stg_orders")
    writers = Writers(sorted(before.customer_id.unique())[:200])
    rng, killed_at = random.Random(1), []
    stops = sorted(rng.sample(range(N_EVENTS // 20, N_EVENTS - N_EVENTS // 20), N_KILLS))
    started = time.monotonic()
    for stop in [*stops, None]:
        with serving(shop) as service:
            writers.url = service.url
            if not killed_at and not writers.n_done:
                for thread in writers.threads:
                    thread.start()
            while stop is not None and writers.n_done < stop:
                time.sleep(0.01)
            if stop is not None:
                service.process.kill()
                killed_at.append(writers.n_done)
                continue
            for thread in writers.threads:
                thread.join()
            took = time.monotonic() - started
            until = time.monotonic() + 120
            while "churn_radar_customers_behind 0.0" not in service.get("/metrics").text or (
                service.get("/readyz").status_code != 200
            ):
                assert time.monotonic() < until
                time.sleep(0.2)
    assert len(killed_at) == N_KILLS
    print(
        f"{N_EVENTS:,} events by {N_WRITERS} writers in {took:.0f} s, killed after {killed_at}, "
        f"{writers.retried} requests sent again"
    )
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    log = SqliteEventLog()
    logged = Counter(event.customer_id for event in log.since())
    assert logged == writers.acknowledged, "each is in the log once"
    rescorer = Rescorer(OnlineStore(), log)
    rescorer.open()
    assert rescorer.behind() == [], "every stored score knows all events of its customer"
    stored = OnlineStore().read("online_scores", list(logged))
    build = rescorer._read_build()
    (rescored, _), known = rescorer._score(build, logged), rescorer._rows(build, logged)
    midnight = datetime.now(UTC).date() + timedelta(days=1)
    for customer, row in zip(logged, stored, strict=True):
        features = features_at(known[customer], midnight, rescorer.shop)
        n_before = ((before.customer_id == customer) & (before.status == "completed")).sum()
        assert features["orders_total"] == features["orders_30d"] + n_before
        assert features["orders_30d"] == logged[customer], "each counts once"
        assert f'"churn_probability": {rescored[customer]["churn_probability"]}' in row[1]["score"]
    log.close()
    # dbt reads each event once as well
    shop.dbt("run", "--select", "+stg_orders")
    after = shop.table("stg_orders")
    assert len(after) == len(before) + N_EVENTS
    assert after.order_id.is_unique
