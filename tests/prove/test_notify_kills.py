"""``churn-radar notify``, killed at random times, loses no alert and repeats a digest at most once per kill.

pytest tests/prove/test_notify_kills.py -s
"""

import os
import random
import re
import subprocess
import time
from contextlib import ExitStack
from datetime import timedelta

from receivers import web_server
from shop import BIN, PROJECT, Shop
from test_notifications import AS_OF, publish, risk

N_KILLS = int(os.environ.get("CHURN_KILLS", "20"))
N_CHANNELS = 4


def run(shop: Shop, kill_after: float | None = None) -> bool:
    """Run the command; return whether it was killed."""
    command = [BIN / "churn-radar", "notify", "--top", "1000"]
    process = subprocess.Popen(command, cwd=PROJECT, env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -9), output
    return process.returncode == -9


def test_every_alert_reaches_every_channel_despite_kills(tmp_path):
    shop, rng, n_killed = Shop(tmp_path / "home"), random.Random(1), 0
    with ExitStack() as stack:
        receivers = [stack.enter_context(web_server()) for _ in range(N_CHANNELS)]
        shop.settings = {"CHURN_NOTIFY_URLS": " ".join(receiver.url for receiver in receivers)}
        for receiver in receivers:
            receiver.pause = 0.1  # so that many kills fall between sending and logging
        publish(shop, risk("customer-999999", 1000))
        started = time.monotonic()
        assert not run(shop)
        longest = time.monotonic() - started
        for number in range(N_KILLS):
            # each day has a new alert, which at least one run that is not killed reads
            publish(shop, risk(f"customer-{number:06}", number + 0.5, AS_OF + timedelta(days=number)))
            n_killed += run(shop, rng.uniform(0.5 * longest, 1.5 * longest))
            if run(shop, rng.uniform(0.5 * longest, 1.5 * longest)):
                n_killed += 1
                assert not run(shop)
        n_messages = [len(receiver.messages) for receiver in receivers]
        assert not run(shop)
        assert n_messages == [len(receiver.messages) for receiver in receivers], "nothing is new"
    repeated = 0
    for receiver in receivers:
        values_by_key = {}
        for message in receiver.messages:
            values = re.findall(r"; ([0-9.]+) at risk", message.text)
            assert values_by_key.setdefault(message.key, values) == values
            assert message.last_line == f"Idempotency-Key: {message.key}"
        sent_values = sorted(float(value) for values in values_by_key.values() for value in values)
        assert sent_values == [*(number + 0.5 for number in range(N_KILLS)), 1000]
        repeated += len(receiver.messages) - len(values_by_key)
    print(f"{N_KILLS + 1} alerts to {N_CHANNELS} channels, {n_killed} runs killed: {repeated} digests repeated")
    assert n_killed > N_KILLS / 2
    assert repeated <= n_killed
