"""What clients without a key cost those who have one: the same reads on a quiet service, and beside an attack.

    python benchmarks/hostile.py
    python benchmarks/hostile.py --seconds 15 --forget

Key holders read scores at a steady rate. The attack comes from another address, or with --same-address from theirs: 50
connections that post 1 MB of JSON each without a key, again and again, and 500 connections with half a header, which
are opened anew when they are closed. The same attack on a route that returns a constant says what the machine costs, on
which the attacker's own process runs as well.
"""

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from serving import (
    AS_OF,
    READER,
    READER_ENTRY,
    answered,
    free_port,
    listening,
    percentiles,
    publish,
    send_steadily,
    wait_until_ready,
)
from suite import Figure, arguments_of, report

from inference.home import PROJECT_DIR
from inference.warehouse import dbt

BIN = Path(sys.executable).parent
UVICORN = [BIN / "uvicorn", "--no-access-log", "--log-level", "error", "--app-dir", "benchmarks", "bare_route:app"]
N_CUSTOMERS = 1000
#: Reads of all key holders a second, and their connections.
READS, READERS = 100, 8
#: Connections that post without a key, and those that send half a header.
POSTING, HALF_OPEN = 50, 500
BODY = b"[" + b"[]," * 333_000 + b"[]]"
POST = b"POST /v1/churn:batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
HALF = b"GET /v1/customers/c1/churn HTTP/1.1\r\nhost: "


def read_steadily(port: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """Read scores with a key; return milliseconds since each read was due, and how many had which status."""
    head = "GET /v1/customers/c{}/churn HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n\r\n"
    requests = [head.format(i, READER).encode() for i in range(N_CUSTOMERS)]
    return asyncio.run(send_steadily(requests, port, READS, READERS, seconds))


async def attack(address: str, port: int, seconds: float) -> Counter[str]:
    """Post without a key and hold connections open; return how many requests and connections ended how."""
    ended: Counter[str] = Counter()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))

    async def post() -> None:
        while True:
            try:
                reader, writer = await connect()
                while True:
                    writer.write(POST % (len(BODY), BODY))
                    ended[f"post {await answered(reader)}"] += 1
            except (OSError, asyncio.IncompleteReadError):
                ended["post closed"] += 1

    async def hold() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await connect()
                writer.write(HALF)
                await reader.read()
                writer.close()
            ended["half-open closed"] += 1

    attackers = [*(post() for _ in range(POSTING)), *(hold() for _ in range(HALF_OPEN))]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*attackers), seconds)
    return ended


def attack_nicely(address: str, port: int, seconds: float, ended: multiprocessing.Queue) -> None:
    """Attack in a process that leaves the processor to others, as a machine of its own would."""
    os.nice(19)
    ended.put(asyncio.run(attack(address, port, seconds)))


def main() -> None:
    """Measure, print and store."""
    parser = arguments_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the attack lasts, and the quiet run")
    parser.add_argument("--same-address", action="store_true", help="attack from the address of the key holders")
    arguments = parser.parse_args()
    ports = free_port(), free_port()
    address = "127.0.0.1" if arguments.same_address else "127.0.0.2"
    with tempfile.TemporaryDirectory(prefix="churn-radar-hostile-") as folder:
        os.environ.update({**dbt.environment(Path(folder)), "CHURN_API_KEYS": str(READER_ENTRY)})
        publish(Path(folder), N_CUSTOMERS)
        for command in (
            ("dbt", "--quiet", "parse"),
            ("feast", "-c", "feature_repo", "apply", "--skip-source-validation"),
            ("feast", "-c", "feature_repo", "materialize", AS_OF, AS_OF, "--views", "online_scores"),
        ):
            subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)
        commands = (
            ([BIN / "churn-radar", "serve", "--port", str(ports[0])], ports[0]),
            ([*UVICORN, "--port", str(ports[1])], ports[1]),
        )
        measured = []
        for command, port in commands:
            with listening(command, port, dict(os.environ)):
                if port == ports[0]:
                    wait_until_ready(port)
                measured.append(quiet_and_attacked(port, address, arguments.seconds))
    (quiet, beside), (_, bare) = measured
    title = (
        f"Key holders' {READS} reads a second over {READERS} connections beside an attack without a key: "
        f"{POSTING} connections that post 1 MB each and {HALF_OPEN} half-open ones, {arguments.seconds:g} seconds"
    )
    targets = ("", "at most 3")
    report("hostile", title, "quiet", compared(beside, quiet, targets), forget=arguments.forget)
    peer = "a bare FastAPI route, attacked"
    report("hostile_floor", title, peer, compared(beside, bare), forget=arguments.forget)


def quiet_and_attacked(port: int, address: str, seconds: float) -> tuple[list[float], list[float]]:
    """Return milliseconds of key holders' reads of a server without and beside an attack from an address."""
    read_steadily(port, 3)  # warm
    quiet, quiet_statuses = read_steadily(port, seconds)
    ended = multiprocessing.Queue()
    attacker = multiprocessing.Process(target=attack_nicely, args=(address, port, seconds + 2, ended))
    attacker.start()
    time.sleep(1)
    beside, statuses = read_steadily(port, seconds)
    attacker.join()
    print(f"the attack: {dict(sorted(ended.get().items()))}; key holders' statuses: {dict(statuses)}")
    if set(quiet_statuses) | set(statuses) != {200}:
        raise SystemExit(f"key holders' statuses: {dict(quiet_statuses)}, {dict(statuses)}; expected 200 alone")
    return quiet, beside


def compared(ours: list[float], peer: list[float], targets: tuple[str, str] = ("", "")) -> list[Figure]:
    """Median and 99th percentile of both."""
    figures = zip(("p50", "p99"), percentiles(ours), percentiles(peer), targets, strict=True)
    return [
        Figure(f"{name} of key holders", own, other, "ms", own / other, target) for name, own, other, target in figures
    ]


if __name__ == "__main__":
    main()
