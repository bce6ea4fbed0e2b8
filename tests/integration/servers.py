"""Servers from Debian's packages that tests start on loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from debian import debian_program


@dataclass
class RedisServer:
    """A Redis server on loopback, which may be stopped and started again with what it held."""

    port: int
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "yes", "--appendfsync", "always"], stdout=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory) -> Iterator[RedisServer]:
    """Redis from Debian's package, where it can be installed."""
    debian_program("redis-server", "redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = RedisServer(free.getsockname()[1], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis(redis_server) -> str:
    """Address of a Redis server."""
    return redis_server.address


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[dict[str, str]]:
    """Environment variables to connect to a Debian PostgreSQL server with an English collation."""
    programs = "usr/lib/postgresql/*/bin"
    initdb, postgres_program, pg_isready = (
        debian_program(name, "postgresql", programs) for name in ("initdb", "postgres", "pg_isready")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # the server refuses to run as root, and pytest's folder is readable only by root
    folder = Path(tempfile.mkdtemp(prefix="churn-postgres-"))
    user = {"user": "postgres", "cwd": folder} if os.geteuid() == 0 else {"cwd": folder}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    sorting = ("--encoding", "UTF8", "--locale", "C", "--locale-provider", "icu", "--icu-locale", "en-US")
    made = [initdb, "-D", folder / "data", "-U", "churn", "--auth", "trust", "--no-sync", *sorting]
    subprocess.run(made, check=True, capture_output=True, **user)
    command = [postgres_program, "-D", folder / "data", "-p", port, "-h", "127.0.0.1", "-k", folder]
    log = folder / "log"
    with log.open("w") as output:
        running = subprocess.Popen([*command, "-c", "fsync=off"], stderr=output, **user)
    ready = [pg_isready, "-h", "127.0.0.1", "-p", port, "-q"]
    for _ in range(600):
        if subprocess.run(ready, check=False).returncode == 0:
            break
        assert running.poll() is None, log.read_text()
        time.sleep(0.1)
    else:
        pytest.fail(f"PostgreSQL did not start within a minute: {log.read_text()}")
    yield {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "churn", "PGDATABASE": "postgres", "DBT_TARGET": "postgres"}
    running.terminate()
    running.wait()
    shutil.rmtree(folder)
