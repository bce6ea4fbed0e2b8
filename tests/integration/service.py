"""The service as a process of its own."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from shop import BIN, PROJECT, Shop

from inference.serving.keys import new_key

READER, READER_ENTRY = new_key("checkout", ["read"])
WRITER, WRITER_ENTRY = new_key("collector", ["write"])
BOTH, BOTH_ENTRY = new_key("shop", ["read", "write"])
KEYS = f"{READER_ENTRY} {WRITER_ENTRY} {BOTH_ENTRY}"


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen

    def get(self, path: str, key: str | None = READER, **arguments: object) -> requests.Response:
        return requests.get(self.url + path, headers={"X-API-Key": key} if key else {}, timeout=5, **arguments)

    def post(self, path: str, key: str | None = READER, **arguments: object) -> requests.Response:
        return requests.post(self.url + path, headers={"X-API-Key": key} if key else {}, timeout=5, **arguments)

    def wait_until_ready(self, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while (answer := self.get("/readyz")).status_code != 200 or answer.json()["status"] != "ok":
            assert time.monotonic() < until, answer.text
            time.sleep(0.1)


@contextmanager
def serving(shop: Shop, *arguments: str, **settings: str) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [BIN / "churn-radar", "serve", "--port", str(port), *arguments],
        cwd=PROJECT,
        env=shop.env | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        yield Service(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(10)
