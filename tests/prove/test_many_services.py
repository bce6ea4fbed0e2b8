"""Three services share one event log behind a balancer; killed and stopped at random, they lose and double nothing.

pytest tests/prove/test_many_services.py -s; CHURN_KILL_EVENTS and CHURN_KILLS set the numbers.
"""

import json
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack, closing

import pytest
from service import Service, serving
from shop import Shop
from test_event_kills import BUILD, N_EVENTS, N_KILLS, N_WRITERS, WITHOUT_TRANSFORMER, Writers
from test_online_scores import materialize

from inference.event_log.opening import open_log
from inference.realtime.online_store import OnlineStore
from inference.realtime.rescorer import Rescorer

N_SERVICES = 3
#: Few, so that services often score the same one at the same time.
N_CUSTOMERS = 20


class Services:
    """Services of one home; as a text, the address of any of them, as a balancer gives it."""

    def __init__(self, shop: Shop) -> None:
        self._shop, self._rng = shop, random.Random(5)
        self.running: list[tuple[ExitStack, Service]] = []

    def __str__(self) -> str:
        return self._rng.choice(self.running)[1].url

    def start(self) -> None:
        stack = ExitStack()
        service = stack.enter_context(serving(self._shop, CHURN_DRAIN_SECONDS="1"))
        self.running.append((stack, service))

    def stop_one(self, number: signal.Signals) -> None:
        """Stop one by a signal; another one takes its place."""
        stack, service = self.running.pop(self._rng.randrange(len(self.running)))
        service.process.send_signal(number)
        stack.close()
        self.start()

    def wait_until_ready(self) -> None:
        for _, service in self.running:
            service.wait_until_ready(120)

    def close(self) -> None:
        for stack, _ in self.running:
            stack.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_three_services_lose_no_event_and_count_none_twice(kind, request, tmp_path, monkeypatch):
    place = {"CHURN_REDIS": request.getfixturevalue("redis")} if kind == "redis" else {}
    if kind == "postgres":
        place = {k: v for k, v in request.getfixturevalue("postgres_server").items() if k.startswith("PG")}
    shop = Shop(tmp_path / "home", settings={"CHURN_RATE_LIMIT": "100000/second", "CHURN_EVENTS": kind, **place})
    shop.run("churn-radar", "simulate", "--customers", "400", "--days", "200", "--seed", "9")
    shop.run(*BUILD, *WITHOUT_TRANSFORMER)
    materialize(shop)
    before = shop.table("stg_orders")
    services, writers = Services(shop), Writers(sorted(before.customer_id.unique())[:N_CUSTOMERS])
    for _ in range(N_SERVICES):
        services.start()
    services.wait_until_ready()
    writers.url = services
    rng, done_at = random.Random(1), []
    started = time.monotonic()
    for thread in writers.threads:
        thread.start()
    for stop in sorted(rng.sample(range(N_EVENTS // 20, N_EVENTS - N_EVENTS // 20), N_KILLS)):
        while writers.n_done < stop:
            time.sleep(0.01)
        done_at.append(writers.n_done)
        services.stop_one(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
    for thread in writers.threads:
        thread.join()
    took = time.monotonic() - started
    services.wait_until_ready()
    print(
        f"{kind}: {N_EVENTS:,} events by {N_WRITERS} writers through {N_SERVICES} services in {took:.0f} s, one "
        f"stopped after {done_at}, {writers.retried} requests sent again"
    )
    time.sleep(12)  # the services look every 10 s for scores that lack events
    services.wait_until_ready()
    services.close()
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    with closing(open_log()) as log:
        logged = Counter(event.customer_id for event in log.since())
        assert logged == writers.acknowledged, "each is in the log once"
        assert [event.sequence for event in log.since()] == list(range(1, N_EVENTS + 1))
        rescorer = Rescorer(OnlineStore(), log)
        rescorer.open()
        assert rescorer.behind() == [], "every stored score knows all events of its customer"
        stored = OnlineStore().read("online_scores", list(logged))
        rescored, _ = rescorer._score(rescorer._read_build(), logged)
        for customer, row in zip(logged, stored, strict=True):
            score = json.loads(row[1]["score"])
            assert score["churn_probability"] == rescored[customer]["churn_probability"]
            assert score["through"] == log.newest_by_customer(0)[customer]
    # dbt reads each event once as well, and erasing a customer takes theirs out of the log
    shop.dbt("run", "--select", "+stg_orders")
    after = shop.table("stg_orders")
    assert len(after) == len(before) + N_EVENTS
    assert after.order_id.is_unique
    customer = next(iter(logged))
    shop.run("churn-radar", "erase", "--customer", customer)
    with closing(open_log()) as log:
        assert not list(log.since(0, customer))
        assert len(log) == N_EVENTS - logged[customer]
