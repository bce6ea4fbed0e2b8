"""Full scoring, transformer, trees and average, against the plain way to do it.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --customers 1000 --runs 3

A simulated shop is built without a transformer, and one with fine-tuned words is trained on its snapshots and joins the
members. The plain way scores the same customers by the same weights: LightGBM's and scikit-learn's ``predict`` batch by
batch, and ``transformers.Trainer.predict`` in float32 with texts padded to ``max_length``. Neither side has any text
read before. Then customers are made many times as many, with texts of their own, and scored in processes of their own,
a thousand at once, whose memory is watched.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import suite
import torch
from scipy.special import expit

from inference.feature_store.client import MODEL_SERVICE, SEQUENCES_SERVICE, snapshot_features
from inference.home import home
from inference.model.churn_model import ChurnModel
from inference.model.members import BoostingMember, LogisticMember
from inference.model.sequences import read_sequences
from inference.model.training_data import TrainingData
from inference.model.transformer.member import TransformerMember, device
from inference.registry import registry
from inference.scoring.batch import CUSTOMERS_AT_ONCE
from inference.simulation.shop import SimulationSettings, simulate
from inference.text.encoder.encoder import Encoder
from inference.warehouse import dbt

SERVICES = (MODEL_SERVICE, SEQUENCES_SERVICE)
BATCH = 64
#: Passes over the rows. So few teach the network little; its answer is made louder, so that differences would be heard.
EPOCHS, LOUDER = 1.0, 0.3
#: How often the customers are taken to see how cost grows, and how many are in memory at once meanwhile.
FEW, MANY, AT_ONCE = 4, 40, 1000


def build(customers: int) -> None:
    """Simulate a shop in ``CHURN_HOME`` and build it."""
    settings = SimulationSettings(customers, 540)
    simulate(settings, home() / "raw", home() / "truth")
    env = dbt.environment(home())
    dbt.run(
        "build", "--exclude-resource-type", "unit_test", variables={"churn__transformer": False}, env=env, quiet=True
    )


def snapshots(which: str) -> pd.DataFrame:
    """Customers and dates of the spine."""
    with duckdb.connect(str(home() / "churn_radar.duckdb"), read_only=True) as connection:
        return connection.sql(
            f"select s.customer_id, s.as_of_date, l.churned, l.horizon_spend from int_customer_snapshots as s "
            f"left join churn_labels as l using (customer_id, as_of_date) where {which} order by all"
        ).df()


def all_members(model: ChurnModel) -> ChurnModel:
    """Give a model every member: trees, regression and a transformer with fine-tuned words."""
    asked = snapshots("s.is_training and l.churned is not null").sample(1500, random_state=0)
    rows = snapshot_features(asked, *SERVICES)
    X, sequences, y = model.matrix(rows), read_sequences(rows), asked.churned.to_numpy(float)
    members = [LogisticMember().fit(X, y), BoostingMember().fit(X, y)]
    tabular = np.mean([member.logit(X) for member in members], axis=0)
    data = TrainingData(asked, X, y, sequences, tabular_logit=tabular)
    transformer = TransformerMember().fit(data, n_epochs=EPOCHS, encoder=Encoder.shared(), fine_tuned=True)
    torch.manual_seed(0)
    torch.nn.init.normal_(transformer.model_.churn_head.weight, std=LOUDER)
    names = [*(member.name for member in members), transformer.name]
    return replace(model, members=members, transformer=transformer, averaged=names)


def ours(model: ChurnModel, rows: pd.DataFrame) -> np.ndarray:
    """Mean log-odds as ``score_newest_snapshot`` computes them, part by part."""
    starts = range(0, len(rows), CUSTOMERS_AT_ONCE)
    return np.concatenate([model.logit(*model.inputs(rows.iloc[s : s + CUSTOMERS_AT_ONCE])) for s in starts])


class Plain(torch.nn.Module):
    """The same network, fed with token ids padded to the longest that is allowed."""

    def __init__(self, member: TransformerMember) -> None:
        super().__init__()
        self.network = member.model_

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **rest: torch.Tensor) -> dict:
        """Read the texts of each customer, then answer."""
        mask = rest.pop("text_mask")
        vectors = torch.zeros((*mask.shape, self.network.config.text_width), device=mask.device)
        if mask.any():
            vectors[mask] = self.network.encode(input_ids=input_ids[mask], attention_mask=attention_mask[mask])
        events = rest["event_types"], rest["event_categories"], rest["event_numbers"]
        texts = vectors, rest["text_subjects"], rest["text_numbers"], mask
        return {"logits": self.network(rest["tabular_logit"], rest["numbers"], events, texts).logit}


def plain(model: ChurnModel, rows: pd.DataFrame) -> np.ndarray:
    """Mean log-odds in the plain way."""
    from transformers import Trainer, TrainingArguments

    member = model.transformer
    X, sequences = model.matrix(rows), read_sequences(rows)
    of_members = []
    for start in range(0, len(X), BATCH):
        part = X.iloc[start : start + BATCH]
        trees = [booster.predict(part.to_numpy(), raw_score=True) for booster in model.members[1].boosters_]
        of_members.append([model.members[0].logit(part), np.mean(trees, axis=0)])
    logits = np.concatenate(of_members, axis=1)
    tabular = logits.mean(axis=0)
    numbers = member.standardiser_.transform(X.to_numpy()).astype(np.float32)
    texts = member._tokens(sequences).within_budget(sequences.texts)
    words = member.tokenizer_(
        sequences.words, padding="max_length", truncation=True, max_length=member.settings.tokens_per_text,
        return_tensors="pt",
    )  # fmt: skip

    def customer(i: int) -> dict:
        mine, there = torch.from_numpy(texts[i]).clamp(min=0), torch.from_numpy(texts[i] >= 0)
        return {
            "input_ids": words["input_ids"][mine],
            "attention_mask": words["attention_mask"][mine],
            "tabular_logit": torch.tensor(tabular[i], dtype=torch.float32),
            "numbers": torch.from_numpy(numbers[i]),
            "event_types": torch.from_numpy(sequences.event_types[i].astype(np.int64)),
            "event_categories": torch.from_numpy(sequences.event_categories[i].astype(np.int64)),
            "event_numbers": torch.from_numpy(sequences.event_numbers[i]),
            "text_subjects": torch.from_numpy(sequences.text_subjects[i].astype(np.int64)),
            "text_numbers": torch.from_numpy(sequences.text_numbers[i]),
            "text_mask": there,
        }

    class Customers(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, i: int) -> dict:
            return customer(i)

    settings = TrainingArguments(
        output_dir=tempfile.gettempdir(), per_device_eval_batch_size=BATCH, report_to=[], use_cpu=device() == "cpu",
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    answer = Trainer(model=Plain(member), args=settings).predict(Customers()).predictions
    return np.vstack([logits, answer]).mean(axis=0)


def forget_texts(model: ChurnModel) -> None:
    """Delete the vectors of the network's texts, so that they are read again."""
    shutil.rmtree(home() / "embeddings" / model.transformer.revision, ignore_errors=True)


def tiled(rows: pd.DataFrame, times: int) -> pd.DataFrame:
    """Return so many of each customer, with texts of their own."""
    copies = []
    for number in range(times):
        texts = [None if t is None else [f"{text} {number}" for text in t] for t in rows.texts]
        copies.append(rows.assign(customer_id=rows.customer_id + f"-{number}", texts=texts))
    return pd.concat(copies, ignore_index=True)


def score_alone(folder: Path, rows: Path) -> None:
    """Score the rows of a file part by part and print the seconds, for a process whose memory is watched."""
    import pyarrow.parquet as pq

    model = ChurnModel.load(folder)
    started, n_rows = time.perf_counter(), 0
    for batch in pq.ParquetFile(rows).iter_batches(AT_ONCE):
        n_rows += len(ours(model, batch.to_pandas()))
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": n_rows}))


def main() -> None:
    """Measure, print, keep."""
    parser = suite.arguments_of(__doc__, device=True)
    parser.add_argument("--customers", type=int, default=4000, help="of the simulated shop; about a third are active")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--home", type=Path, help="keep the shop here, or take it from here")
    parser.add_argument("--score", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        score_alone(*arguments.score)
        return
    with tempfile.TemporaryDirectory(prefix="churn-radar-scoring-") as folder:
        os.environ["CHURN_DEVICE"] = arguments.device
        os.environ |= dbt.environment((arguments.home or Path(folder)).resolve())
        if not (home() / "churn_radar.duckdb").exists():
            build(arguments.customers)
        model = all_members(registry.champion().model)
        rows = snapshot_features(snapshots("s.is_newest")[["customer_id", "as_of_date"]], *SERVICES)
        taken, theirs, far = [], [], []
        for _ in range(arguments.runs):
            forget_texts(model)
            started = time.perf_counter()
            mine = ours(model, rows)
            taken.append(time.perf_counter() - started)
            started = time.perf_counter()
            other = plain(model, rows)
            theirs.append(time.perf_counter() - started)
            far.append(float(np.abs(expit(mine) - expit(other)).max()))
        ratio = statistics.median(their / our for our, their in zip(taken, theirs, strict=True))
        X = model.matrix(rows)
        unheard = np.mean([member.logit(X) for member in model.members], axis=0)
        heard = float(np.abs(expit(ours(model, rows)) - expit(unheard)).max())
        n_rows = len(rows)
        per_second = n_rows / statistics.median(taken), n_rows / statistics.median(theirs)
        figures = [
            suite.Figure("customers scored", *per_second, "a second", ratio, "at least 8"),
            suite.Figure("  a probability differs, at most", max(far), 0.0, "", max(far), "at most 0.001"),
            suite.Figure("  the transformer moves one, at most", heard, 0.0, "", heard),
        ]
        model.save(Path(folder) / "model")
        alone = {}
        for times in (FEW, MANY):
            file = Path(folder) / f"{times}.parquet"
            tiled(rows, times).to_parquet(file, row_group_size=5000)
            forget_texts(model)
            log = Path(folder) / f"{times}.log"
            script = [sys.executable, __file__, "--score", Path(folder) / "model", file]
            measured = suite.measure(script, {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}, log)
            alone[times] = json.loads(log.read_text().splitlines()[-1])["seconds"], measured.peak_mb
        (few_s, few_mb), (many_s, many_mb) = alone[FEW], alone[MANY]
        figures += [
            suite.Figure(
                f"{n_rows * MANY:,} customers against {n_rows * FEW:,}, time",
                many_s,
                few_s,
                "s",
                many_s / few_s,
                "at most 11",
            ),
            suite.Figure("  memory", many_mb, few_mb, "MB", many_mb / few_mb, "at most 1.2"),
        ]
    title = f"Scoring {n_rows:,} customers with transformer, trees and average"
    suite.report("scoring", title, "plain way, or few", figures, arguments.runs, arguments.forget, arguments.device)


if __name__ == "__main__":
    main()
