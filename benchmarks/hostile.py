"""What clients without a key cost those who have one: the same reads on a quiet service, and beside an attack.

    python benchmarks/hostile.py
    python benchmarks/hostile.py --seconds 15 --forget

Key holders read scores at a steady rate. The attack comes from another address, or with --same-address from theirs: 50
connections that post 1 MB of JSON each without a key, again and again, and 500 connections with half a header, which
are opened anew when they are closed.
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

from serving import AS_OF, READER, READER_ENTRY, free_port, listening, percentiles, publish, wait_until_ready
from suite import Figure, arguments_of, report

from inference.home import PROJECT_DIR
from inference.warehouse import dbt

BIN = Path(sys.executable).parent
N_CUSTOMERS = 1000
#: Reads of all key holders a second, and their connections.
READS, READERS = 100, 8
#: Connections that post without a key, and those that send half a header.
POSTING, HALF_OPEN = 50, 500
BODY = b"[" + b"[]," * 333_000 + b"[]]"
POST = b"POST /v1/churn:batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
HALF = b"GET /v1/customers/c1/churn HTTP/1.1\r\nhost: "


async def answered(reader: asyncio.StreamReader) -> int:
    """Read one answer, and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    return int(head.split()[1])


async def read_steadily(port: int, seconds: float) -> tuple[list[float], Counter[int]]:
    """Read scores with a key; return milliseconds since each read was due, and how many had which status."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    started = time.perf_counter()

    async def read(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in range(number, int(READS * seconds), READERS):
            due = started + i / READS
            await asyncio.sleep(due - time.perf_counter())
            request = f"GET /v1/customers/c{i % N_CUSTOMERS}/churn HTTP/1.1\r\nhost: x\r\nx-api-key: {READER}\r\n\r\n"
            writer.write(request.encode())
            statuses[await answered(reader)] += 1
            taken.append(1e3 * (time.perf_counter() - due))
        writer.close()

    await asyncio.gather(*(read(number) for number in range(READERS)))
    return taken, statuses


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
    port, ended = free_port(), multiprocessing.Queue()
    with tempfile.TemporaryDirectory(prefix="churn-radar-hostile-") as folder:
        os.environ.update({**dbt.environment(Path(folder)), "CHURN_API_KEYS": str(READER_ENTRY)})
        publish(Path(folder), N_CUSTOMERS)
        for command in (
            ("dbt", "--quiet", "parse"),
            ("feast", "-c", "feature_repo", "apply", "--skip-source-validation"),
            ("feast", "-c", "feature_repo", "materialize", AS_OF, AS_OF, "--views", "online_scores"),
        ):
            subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL)
        with listening([BIN / "churn-radar", "serve", "--port", str(port)], port, dict(os.environ)):
            wait_until_ready(port)
            asyncio.run(read_steadily(port, 3))  # warm
            quiet, quiet_statuses = asyncio.run(read_steadily(port, arguments.seconds))
            address = "127.0.0.1" if arguments.same_address else "127.0.0.2"
            attacker = multiprocessing.Process(target=attack_nicely, args=(address, port, arguments.seconds + 2, ended))
            attacker.start()
            time.sleep(1)
            beside, statuses = asyncio.run(read_steadily(port, arguments.seconds))
            attacker.join()
    print(f"the attack: {dict(sorted(ended.get().items()))}; key holders' statuses: {dict(statuses)}")
    if set(quiet_statuses) | set(statuses) != {200}:
        raise SystemExit(f"key holders were refused: {dict(statuses)}; expected 200 alone")
    figures = [
        Figure(f"{name} of key holders", ours, peer, "ms", ours / peer, target)
        for name, ours, peer, target in zip(
            ("p50", "p99"), percentiles(beside), percentiles(quiet), ("", "at most 3"), strict=True
        )
    ]
    title = (
        f"Key holders' {READS} reads a second over {READERS} connections beside an attack without a key: "
        f"{POSTING} connections that post 1 MB each and {HALF_OPEN} half-open ones, {arguments.seconds:g} seconds"
    )
    report("hostile", title, "quiet", figures, forget=arguments.forget)


if __name__ == "__main__":
    main()
