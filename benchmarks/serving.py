"""What a lookup costs: Feast's SDK beside bare Redis, the service beside a bare route and ``feast serve``.

    python benchmarks/serving.py
    python benchmarks/serving.py --requests 1000 --seconds 5 --forget

Needs ``redis-server`` and ``wrk`` (Debian packages of these names). Scores of so many customers are published,
materialised to a Redis on loopback, and looked up at random; the times of one line come from the same minutes.

Over HTTP: reads of one customer at several numbers of connections, writes (an order, which the service has on disk when
it answers; a pushed row), memory before and after many reads, and 100 customers a request at 100 requests a second, the
load of Feast's own benchmark. That one asks for 50 features a customer; here it is a score of 12 fields, in one value.
By default Feast's server restarts its worker every 1,000 requests, which closes connections and makes its p99 0.8
seconds; here it does not.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
import psutil
from rich.table import Table
from suite import Figure, arguments_of, report, resident

from inference.features.packing import pack
from inference.home import PROJECT_DIR
from inference.reporting import tables
from inference.serving.keys import new_key
from inference.warehouse import dbt
from inference.warehouse.manifest import Manifest

BIN = Path(sys.executable).parent
AS_OF = "2026-11-01T00:00:00"
#: Customers of one lookup, and Feast's own published p99 in milliseconds (Redis, 2026).
PUBLISHED_P99 = {1: 1.70, 10: 2.07, 50: 7.49, 100: 114.0}
#: What is looked up, and the view and field that the store holds of it.
LOOKED_UP = {"churn_scores_v1": ("online_scores", "score"), "churn_model_v1": ("model_features", "packed")}
READER, READER_ENTRY = new_key("benchmark", ["read"])
WRITER, WRITER_ENTRY = new_key("writer", ["write"])
#: The server that must answer every request.
OURS = "churn-radar serve"
#: Connections that read, and those that write.
READING, WRITING = (1, 8, 32, 200), 8
#: The load of Feast's own benchmark: customers of a request, requests a second, and connections.
TOGETHER, STEADY_RATE, STEADY_CONNECTIONS = 100, 100, 8
#: Reads between two measurements of memory.
MEMORY_READS = 50_000
#: Requests of wrk: it calls ``request`` for each. What is in capitals is filled in.
JSON_HEADERS = '{["Content-Type"] = "application/json", ["X-API-Key"] = "WRITER"}'
READ = 'return wrk.format("GET", "/v1/customers/c" .. math.random(0, LAST) .. "/churn", {["X-API-Key"] = "READER"})'
FEAST_READ = f"""return wrk.format("POST", "/get-online-features", {JSON_HEADERS},
  '{{"feature_service": "churn_scores_v1", "entities": {{"customer_id": ["c' .. math.random(0, LAST) .. '"]}}}}')"""
WRITE = f"""n = n + 1
local id, customer = run .. " " .. n, "c" .. math.random(0, LAST)
return wrk.format("POST", "/v1/events", {JSON_HEADERS},
  '{{"events": [{{"type": "order", "event_id": "' .. id .. '", "order_id": "' .. id .. '", "ordered_at": "NOW", '
  .. '"amount": 9.5, "customer_id": "' .. customer .. '"}}]}}')"""
FEAST_WRITE = f"""return wrk.format("POST", "/push", {JSON_HEADERS},
  '{{"push_source_name": "online_scores_push", "to": "online", "df": {{"customer_id": ["pushed ' .. math.random(0, LAST)
  .. '"], "score": ["{{}}"], "feature_snapshot_at": ["NOW"], "scored_at": ["NOW"]}}}}')"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def listening(command: list, port: int, env: dict[str, str]) -> Iterator[psutil.Process]:
    """Run a server until the block ends."""
    process = subprocess.Popen(
        command, cwd=PROJECT_DIR, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def wait_until_ready(port: int) -> None:
    """Wait for the service to load what it needs."""
    for _ in range(600):
        with contextlib.suppress(urllib.error.HTTPError):
            if json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"))["status"] == "ok":
                return
        time.sleep(0.1)
    raise SystemExit("the service did not get ready")


def publish(home: Path, n_customers: int) -> None:
    """Write scores as ``dbt build`` publishes them."""
    (home / "published").mkdir(parents=True)
    score = {
        "churn_probability": 0.4321987654321,
        "risk_band": "high",
        "risk_percentile": 0.87654321,
        "horizon_days": 30,
        "expected_spend": 87.654321,
        "value_at_risk": 37.88,
        "reason_1": "last order 72 days ago; usually every 8",
        "reason_2": "1 order in the last 90 days, 0 in the last 30",
        "reason_3": "4 different products in the last 90 days, 6 items per order",
        "model_version": "3",
    }
    duckdb.execute(
        f"copy (select 'c' || i as customer_id, ? as score, timestamp '{AS_OF}' as feature_snapshot_at, "
        f"timestamp '{AS_OF}' as scored_at from range({n_customers}) as t(i)) "
        f"to '{home}/published/online_scores.parquet'",
        [json.dumps(score)],
    )


def publish_features(home: Path, n_customers: int) -> None:
    """Write packed features as ``dbt build`` exports them: numbers of the manifest, an embedding for every customer."""
    names = Manifest.load().model_columns
    chance, moment = np.random.default_rng(0), pd.Timestamp(AS_OF)
    days = np.full(n_customers, moment.to_numpy().astype("datetime64[D]").astype("int64"))
    packed = pack(
        chance.integers(1, 400, (n_customers, len(names))).astype(float),
        names,
        days,
        chance.normal(size=(n_customers, 384)).astype(np.float32),
        [{"attributes": None, "encoder_revision": "benchmark"}] * n_customers,
    )
    (home / "features").mkdir()
    rows = {"customer_id": [f"c{i}" for i in range(n_customers)], "packed": packed, "event_timestamp": moment}
    pd.DataFrame(rows).to_parquet(home / "features" / "model_features.parquet", index=False)


def timed(calls: list[Callable], n_requests: int) -> list[list[float]]:
    """Call by turns, so that a noisy minute meets all of them; return milliseconds of each."""
    times = [[] for _ in calls]
    for _ in range(n_requests):
        for call, taken in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - started))
    return times


def percentiles(taken: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return cuts[49], cuts[98]


def lookups(service_name: str, field: tuple[str, str], port: int, n_customers: int, n_requests: int) -> Table:
    """Feast's SDK against a bare pipelined HMGET of the same values: the service's, stored as a view's field."""
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from redis import Redis

    from inference.feature_store.client import open_store

    store, client = open_store(), Redis(port=port)
    service = store.get_feature_service(service_name)
    fields = [_mmh3(":".join(field)), f"_ts:{field[0]}"]
    table = Table(title=f"Lookups of {service_name} in Redis, {n_requests:,} requests each, milliseconds")
    for heading in ("customers", "Feast p50", "p99", "published p99", "HMGET p50", "p99", "p50 ratio"):
        table.add_column(heading, justify="right")
    chance = random.Random(0)
    for size, published in PUBLISHED_P99.items():
        asked = [f"c{i}" for i in chance.sample(range(n_customers), size)]
        keys = [
            _redis_key(store.project, EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=c)]), 3)
            for c in asked
        ]

        def by_feast(asked: list[str] = asked) -> dict:
            return store.get_online_features(service, {"customer_id": asked}).to_dict()

        def by_hmget(keys: list[bytes] = keys) -> list:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.hmget(key, fields)
            return pipeline.execute()

        assert None not in by_feast()[service.feature_view_projections[0].features[0].name]
        assert all(value is not None for row in by_hmget() for value in row)
        (feast_50, feast_99), (bare_50, bare_99) = map(percentiles, timed([by_feast, by_hmget], n_requests))
        figures = (feast_50, feast_99, published, bare_50, bare_99)
        table.add_row(str(size), *(f"{figure:.2f}" for figure in figures), f"{feast_50 / bare_50:.2f}")
    return table


class Server(NamedTuple):
    """A server, and what wrk sends to it."""

    name: str
    process: psutil.Process
    port: int
    read: str
    write: str = ""

    def processor_seconds(self) -> float:
        """Processor time of the server and of its workers, ended ones included."""
        return sum(sum(one.cpu_times()[:4]) for one in (self.process, *self.process.children(recursive=True)))


class Asked(NamedTuple):
    """What wrk measured: requests a second, percentiles in milliseconds, processor milliseconds a request."""

    n_requests: int
    rate: float
    p50: float
    p99: float
    processor: float


def wrk(server: Server, request: str, connections: int, seconds: int, script: Path) -> Asked:
    """Ask a server as fast as it answers."""
    script.write_text(f"local n, run = 0, os.time()\nrequest = function()\n{request}\nend\n")
    url, before = f"http://127.0.0.1:{server.port}", server.processor_seconds()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", script, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if failed := re.findall(r"Non-2xx.*|Socket errors.*", output):
        print(f"{server.name}, {connections} connections: {'; '.join(failed)}")
        if server.name == OURS:
            raise SystemExit(1)
    units = {"us": 1e-3, "ms": 1, "s": 1e3}
    p50, p99 = (
        float(number) * units[unit] for number, unit in re.findall(r"(?:50|99)%\s+([\d.]+)(us|ms|s)\b", output)[:2]
    )
    n_requests, rate = re.search(r"(\d+) requests in", output)[1], re.search(r"Requests/sec:\s+([\d.]+)", output)[1]
    used = server.processor_seconds() - before
    return Asked(int(n_requests), float(rate), p50, p99, 1e3 * used / int(n_requests))


async def answered(reader: asyncio.StreamReader) -> int:
    """Read one answer, and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    return int(head.split()[1])


async def send_steadily(
    requests: Sequence[bytes], port: int, rate: float, connections: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    """Send requests in turn at a rate; return milliseconds since each was due, and how many had which status.

    The status is 0 where the server closed the connection, which is then opened anew.
    """
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    started = time.perf_counter()

    async def send(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in range(number, int(rate * seconds), connections):
            due = started + i / rate
            await asyncio.sleep(due - time.perf_counter())
            if time.perf_counter() > started + seconds:
                break  # a server that is too slow
            writer.write(requests[i % len(requests)])
            try:
                statuses[await answered(reader)] += 1
            except (OSError, asyncio.IncompleteReadError):
                statuses[0] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            taken.append(1e3 * (time.perf_counter() - due))
        writer.close()

    await asyncio.gather(*(send(number) for number in range(connections)))
    return taken, statuses


def together(path: str, body: Callable[[list[str]], dict], n_customers: int) -> list[bytes]:
    """Requests for many customers each, at random."""
    chance, requests = random.Random(0), []
    for _ in range(50):
        content = json.dumps(body([f"c{i}" for i in chance.sample(range(n_customers), TOGETHER)])).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {READER}\r\ncontent-type: application/json\r\n"
        requests.append(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return requests


def compare(ours: Server, feast: Server, script: Path, n_customers: int, seconds: int) -> list[Figure]:
    """The service beside Feast's own server."""
    figures = []

    def add(what: str, own: float, peer: float, unit: str) -> None:
        figures.append(Figure(what, own, peer, unit, own / peer))

    for connections in READING:
        own, peer = (wrk(server, server.read, connections, seconds, script) for server in (ours, feast))
        add(f"reads, {connections} connections", own.rate, peer.rate, "/s")
        add("  p50", own.p50, peer.p50, "ms")
        add("  p99", own.p99, peer.p99, "ms")
        add("  processor time a read", own.processor, peer.processor, "ms")
    own, peer = (wrk(server, server.write, WRITING, seconds, script) for server in (ours, feast))
    add(f"writes, {WRITING} connections", own.rate, peer.rate, "/s")
    add("  p99", own.p99, peer.p99, "ms")
    add("  processor time a write", own.processor, peer.processor, "ms")
    asked = (
        together("/v1/churn:batch", lambda ids: {"customer_ids": ids}, n_customers),
        together(
            "/get-online-features",
            lambda ids: {"feature_service": "churn_scores_v1", "entities": {"customer_id": ids}},
            n_customers,
        ),
    )
    (own_taken, own_statuses), (peer_taken, peer_statuses) = (
        asyncio.run(send_steadily(requests, server.port, STEADY_RATE, STEADY_CONNECTIONS, seconds))
        for server, requests in zip((ours, feast), asked, strict=True)
    )
    due = STEADY_RATE * seconds / 100
    what = f"{TOGETHER} customers a request, {STEADY_RATE} requests a second"
    add(f"{what}: answered with 200", own_statuses[200] / due, peer_statuses[200] / due, "%")
    add("  p99", percentiles(own_taken)[1], percentiles(peer_taken)[1], "ms")
    before, after = [], []
    for server in (ours, feast):
        before.append(resident(server.process) / 1e6)
        done = 0
        while done < MEMORY_READS:
            done += wrk(server, server.read, 32, seconds, script).n_requests
        after.append(resident(server.process) / 1e6)
    add(f"memory after {MEMORY_READS:,} more reads", *after, "MB")
    add("  as a multiple of that before", after[0] / before[0], after[1] / before[1], "times")
    return figures


def over_http(home: Path, env: dict[str, str], n_customers: int, seconds: int, forget: bool) -> None:
    """The service beside Feast's own server and a route that returns a constant: measure, print and store."""
    ports = [free_port() for _ in range(3)]
    uvicorn = [BIN / "uvicorn", "--no-access-log", "--log-level", "error", "--port", str(ports[2])]
    serve = [BIN / "feast", "-c", "feature_repo", "serve"]
    commands = (
        [BIN / "churn-radar", "serve", "--port", str(ports[0])],
        [*serve, "--port", str(ports[1]), "--no-access-log", "--max-requests", "0"],
        [*uvicorn, "--app-dir", "benchmarks", "bare_route:app"],
    )
    filled = {"LAST": str(n_customers - 1), "READER": READER, "WRITER": WRITER, "NOW": f"{datetime.now(UTC):%FT%TZ}"}
    with contextlib.ExitStack() as running:
        processes = [
            running.enter_context(listening(command, port, env)) for command, port in zip(commands, ports, strict=True)
        ]
        wait_until_ready(ports[0])
        scripts = [
            re.sub("|".join(filled), lambda word: filled[word[0]], script)
            for script in (READ, FEAST_READ, WRITE, FEAST_WRITE)
        ]
        ours = Server(OURS, processes[0], ports[0], scripts[0], scripts[2])
        feast = Server("feast serve", processes[1], ports[1], scripts[1], scripts[3])
        bare = Server("a bare FastAPI route", processes[2], ports[2], scripts[0])
        script = home / "requests.lua"
        for server in (ours, feast, bare):
            wrk(server, server.read, WRITING, 3, script)  # warm
        title = f"Over HTTP, {n_customers:,} customers in Redis, asked on the same machine for {seconds} s each"
        report("serving", title, feast.name, compare(ours, feast, script, n_customers, seconds), forget=forget)
        own, floor = (wrk(server, server.read, WRITING, seconds, script) for server in (ours, bare))
        figures = [
            Figure(f"reads, {WRITING} connections", own.rate, floor.rate, "/s", own.rate / floor.rate),
            Figure("  p99", own.p99, floor.p99, "ms", own.p99 / floor.p99),
            Figure("  processor time a read", own.processor, floor.processor, "ms", own.processor / floor.processor),
        ]
        report("serving_floor", title, bare.name, figures, forget=forget)


def main() -> None:
    """Measure and print."""
    parser = arguments_of(__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=10_000, help="lookups by the SDK, each size")
    parser.add_argument("--seconds", type=int, default=45, help="how long each server is asked")
    arguments = parser.parse_args()
    for program in ("redis-server", "wrk"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed; expected Debian's package of that name")
    console, port = tables.console(), free_port()
    with tempfile.TemporaryDirectory(prefix="churn-radar-serving-") as folder:
        home = Path(folder)
        settings = {
            **dbt.environment(home),
            "CHURN_REDIS": f"127.0.0.1:{port}",
            "CHURN_API_KEYS": f"{READER_ENTRY} {WRITER_ENTRY}",
            "CHURN_RATE_LIMIT": "1000000/second",
        }
        os.environ.update(settings)
        redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with listening(redis, port, dict(os.environ)):
            publish(home, arguments.customers)
            subprocess.run([BIN / "dbt", "--quiet", "parse"], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)
            publish_features(home, arguments.customers)
            views = ("--views", "online_scores", "--views", "model_features")
            for command in (
                ("feast", "-c", "feature_repo", "apply", "--skip-source-validation"),
                ("feast", "-c", "feature_repo", "materialize", AS_OF, AS_OF, *views),
            ):
                subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)
            for service, field in LOOKED_UP.items():
                console.print(lookups(service, field, port, arguments.customers, arguments.requests))
            over_http(home, dict(os.environ), arguments.customers, arguments.seconds, arguments.forget)


if __name__ == "__main__":
    main()
