"""Fine-tuning killed at random times (make prove) resumes and ends with the weights of an uninterrupted run."""

import json
import os
import random
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

KILLS = 12
#: Every third run is killed while a checkpoint is being written.
EVERY_HALF_WRITTEN = 3
#: Maximum time until a training is killed, in seconds from its beginning.
MAX_SECONDS = 4.0

TRAINING = """
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from inference.text.encoder.encoder import Encoder
from inference.model.training_data import TrainingData
from inference.model.transformer.settings import TransformerSettings
from inference.model.sequences import read_sequences
from inference.simulation.words import ENGLISH, complaint, praise
from inference.model.transformer.member import TransformerMember

N, LATER = 240, 48
rng = np.random.default_rng(0)
y = (rng.random(N) < 0.5).astype(int)
texts = [complaint(ENGLISH, "delivery", "severe", rng) if gone else praise(ENGLISH, rng) for gone in y]
sequences = read_sequences(
    pd.DataFrame(
        {
            "event_types": [["order", "visit"]] * N,
            "event_categories": [["toys", ""]] * N,
            "event_days_ago": list(np.sort(rng.uniform(1, 100, (N, 2)), axis=1)),
            "event_amounts": [[20.0, 0.0]] * N,
            "text_ids": [[f"reviews:{i}"] for i in range(N)],
            "texts": [[text] for text in texts],
            "text_subjects": [["lamp"]] * N,
            "text_days_ago": [[2.0]] * N,
            "text_ratings": [[0.0]] * N,
        }
    )
)
X, tabular = pd.DataFrame({"x": rng.normal(size=N)}), rng.normal(0, 0.5, N)
rows, later = np.arange(N - LATER), np.arange(N - LATER, N)
member = TransformerMember(TransformerSettings(batch_rows=4, accumulation=2, checkpoint_seconds=0.3))
encoder = Encoder()
print("training begins")
data = TrainingData(X, X, y, sequences, tabular_logit=tabular)
member.fit(data.take(rows), data.take(later), encoder=encoder, fine_tuned=True)
target = Path(sys.argv[1])
np.savez(target / "weights.npz", **{name: w.numpy() for name, w in member.model_.state_dict().items()})
history = member.history_
(target / "curves.json").write_text(json.dumps({"steps": history.steps, "later": history.later}))
"""


class Training:
    """A training process; its output goes to a file, unbuffered."""

    def __init__(self, script: Path, home: Path, target: Path) -> None:
        self.printed = target / "printed.txt"
        env = {**os.environ, "CHURN_HOME": str(home), "CHURN_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        with self.printed.open("w") as out:
            command = [sys.executable, "-u", script, target]
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)

    @property
    def text(self) -> str:
        return self.printed.read_text()

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def wait_until_it_begins(self) -> None:
        while self.runs and "training begins" not in self.text:
            time.sleep(0.005)

    def finish(self) -> None:
        assert self.process.wait() == 0, self.text

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def half_written(folder: Path, since: float) -> bool:
    """Whether this training has written part of a checkpoint; parts of earlier killed runs do not count."""
    with suppress(FileNotFoundError):  # renamed in the meantime
        return any(file.stat().st_mtime >= since for file in folder.glob("*.partial"))
    return False


def resumed_after(text: str) -> list[int]:
    """Steps after which runs resumed; empty if a run was killed before it resumed or had no checkpoint."""
    return [int(step.replace(",", "")) for step in re.findall(r"resumed after step ([\d,]+)", text)]


def test_fine_tuning_killed_at_random_times(tmp_path, capsys):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    folders = {name: tmp_path / name for name in ("undisturbed", "killed", "home_undisturbed", "home_killed")}
    for folder in folders.values():
        folder.mkdir()
    undisturbed = Training(script, folders["home_undisturbed"], folders["undisturbed"])
    undisturbed.wait_until_it_begins()
    started = time.monotonic()
    undisturbed.finish()
    seconds = time.monotonic() - started

    moments, steps, beside_parts = [], [], 0
    checkpoints = folders["home_killed"] / "checkpoints"
    for number in range(KILLS):
        moment = random.Random(number).uniform(0, min(MAX_SECONDS, seconds))
        training = Training(script, folders["home_killed"], folders["killed"])
        training.wait_until_it_begins()
        began = time.time()
        while training.runs and time.time() - began < moment:
            time.sleep(0.005)
        if number % EVERY_HALF_WRITTEN == 0:
            while training.runs and not half_written(checkpoints, began):
                time.sleep(0.0005)
        assert training.runs, f"it ended before kill {number}: {training.text}"
        training.kill()  # SIGKILL
        moments.append(time.time() - began)
        beside_parts += half_written(checkpoints, began)
        assert "cannot be read" not in training.text
        steps += resumed_after(training.text)
    final = Training(script, folders["home_killed"], folders["killed"])
    final.finish()
    assert resumed_after(final.text)
    steps += resumed_after(final.text)

    assert "cannot be read" not in final.text
    assert beside_parts >= KILLS // EVERY_HALF_WRITTEN
    assert steps == sorted(steps), "a killed training may lose work since the last checkpoint, never more"
    assert len(set(steps)) >= KILLS // 3
    with np.load(folders["undisturbed"] / "weights.npz") as one, np.load(folders["killed"] / "weights.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    curves = [json.loads((folders[name] / "curves.json").read_text()) for name in ("undisturbed", "killed")]
    assert curves[0] == curves[1]
    with capsys.disabled():
        print(
            f"\n{KILLS} trainings killed {min(moments):.1f} to {max(moments):.1f} s after they began, {beside_parts} "
            f"beside a half-written checkpoint; resumed after steps {', '.join(map(str, steps))} of "
            f"{curves[0]['steps'][-1]['step']}; undisturbed {seconds:.1f} s; {len(one.files)} equal weights"
        )
