"""The online store on a real Redis server, chosen by CHURN_REDIS alone."""

import json
import os
import shutil
import socket
import subprocess
import time

import pytest
from shop import BIN, PROJECT

pytestmark = pytest.mark.xdist_group("real_shop")


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


def test_online_values_from_redis_equal_offline_values(real_shop, redis):
    shop, _ = real_shop
    env = {**shop.env, "CHURN_REDIS": redis}
    as_of = f"{shop.scores().as_of_date.max():%Y-%m-%dT%H:%M:%S}"
    for command in (
        [BIN / "feast", "-c", "feature_repo", "apply"],
        [BIN / "feast", "-c", "feature_repo", "materialize", as_of, as_of],
        [BIN / "python", "tests/integration/compare_online_offline.py", "200"],
    ):
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["customers"] == 200
    assert figures["different"] == []
