"""What a lookup costs: Feast's SDK beside bare Redis, the service beside a bare route and ``feast serve``.

    python benchmarks/serving.py

Needs ``redis-server`` and ``wrk`` (Debian packages of these names). Scores of so many customers are published,
materialised to a Redis on loopback, and looked up at random; the times of one line come from the same minutes.
"""

import argparse
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
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from rich.table import Table

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
#: wrk asks for a random customer each time.
LOOKUP = """
local n = %d
local body = %s
request = function()
  local id = "c" .. math.random(0, n - 1)
  if body then
    return wrk.format("POST", "/get-online-features", {["Content-Type"] = "application/json"},
      '{"feature_service": "churn_scores_v1", "entities": {"customer_id": ["' .. id .. '"]}}')
  end
  return wrk.format("GET", "/v1/customers/" .. id .. "/churn", {["X-API-Key"] = "%s"})
end
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def listening(command: list, port: int, env: dict[str, str]) -> Iterator[None]:
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
        yield
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


def wrk(url: str, connections: int, seconds: int, script: Path) -> tuple[int, float, float, float]:
    """Return requests, requests a second, and the median and 99th percentile in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(output)
    units = {"us": 1e-3, "ms": 1, "s": 1e3}
    p50, p99 = (
        float(number) * units[unit] for number, unit in re.findall(r"(?:50|99)%\s+([\d.]+)(us|ms|s)\b", output)[:2]
    )
    return (
        int(re.search(r"(\d+) requests in", output)[1]),
        float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
        p50,
        p99,
    )


def over_http(home: Path, env: dict[str, str], n_customers: int, seconds: int) -> Table:
    """The service, a route that returns a constant, and Feast's own server."""
    ports = [free_port() for _ in range(3)]
    uvicorn = [BIN / "uvicorn", "--no-access-log", "--log-level", "error", "--port", str(ports[1])]
    servers = {
        "GET …/churn": [BIN / "churn-radar", "serve", "--port", str(ports[0])],
        "a bare FastAPI route": [*uvicorn, "--app-dir", "benchmarks", "bare_route:app"],
        "feast serve": [BIN / "feast", "-c", "feature_repo", "serve", "--port", str(ports[2]), "--no-access-log"],
    }
    table = Table(title="Over HTTP, from wrk on the same machine")
    for heading in ("", "connections", "requests", "a second", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    with contextlib.ExitStack() as running:
        for command, port in zip(servers.values(), ports, strict=True):
            running.enter_context(listening(command, port, env))
        wait_until_ready(ports[0])
        for connections in (50, 8):
            for name, port in zip(servers, ports, strict=True):
                script = home / "lookup.lua"
                script.write_text(LOOKUP % (n_customers, "true" if name == "feast serve" else "false", READER))
                wrk(f"http://127.0.0.1:{port}", connections, 3, script)  # warm
                n_requests, rate, p50, p99 = wrk(f"http://127.0.0.1:{port}", connections, seconds, script)
                table.add_row(name, str(connections), f"{n_requests:,}", f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}")
            table.add_section()
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
            "CHURN_API_KEYS": str(READER_ENTRY),
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
            console.print(over_http(home, dict(os.environ), arguments.customers, arguments.seconds))


if __name__ == "__main__":
    main()
