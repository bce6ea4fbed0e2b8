import os
import shutil
import socket
import subprocess
import time

import pytest
from shop import Shop


@pytest.fixture
def shop(tmp_path) -> Shop:
    return Shop(tmp_path / "home")


@pytest.fixture(scope="session")
def real_shop(tmp_path_factory) -> tuple[Shop, list[subprocess.CompletedProcess]]:
    """Real purchases, from raw tables to the online store, by the commands of the README."""
    shop = Shop(tmp_path_factory.mktemp("real") / "home")
    shop.run("churn-radar", "load-example", "complete-journey")
    build = shop.run("dbt", "build")
    apply = shop.run("feast", "-c", "feature_repo", "apply")
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    materialize = shop.run("feast", "-c", "feature_repo", "materialize", as_of, as_of)
    return shop, [build, apply, materialize]


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> str:
    """Address of a Redis server on loopback, from Debian's package where it can be installed."""
    if shutil.which("redis-server") is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", "redis-server"]):
            subprocess.run(command, capture_output=True, check=False)
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    server.terminate()
    server.wait()
