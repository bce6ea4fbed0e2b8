"""Scoring by Spark: the functions of ``score``, applied to one partition at a time on the executors.

Executors need this package installed. Their Python workers are reused, so each loads a model once.
"""

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from inference.feature_store import client
from inference.home import home
from inference.model.churn_model import ChurnModel
from inference.registry.registry import RegisteredModel
from inference.scoring.score import SCHEMA, mean_logit, refuse_other_encoder, score_columns
from inference.warehouse import spark
from inference.warehouse.manifest import Manifest
from inference.warehouse.spark import errors_in_one_line, take_gpu

#: Model and rows as it reads them, from rows of one partition.
Reader = Callable[[pd.DataFrame], tuple[RegisteredModel, pd.DataFrame]]

#: The model that this worker process has loaded, by version and fingerprint of its files; at most one.
_loaded: dict[str, RegisteredModel] = {}


class SparkScorer:
    """Scores customers of one date on Spark's executors; the results are read back batch by batch.

    The interface is that of ``LocalScorer``.
    """

    def __init__(self, current: RegisteredModel, customers: pd.DataFrame, services: Sequence[str]) -> None:
        self._folder = spark.scratch(home()) / "scores"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._spark = spark.session(tables=False)
        key = ["customer_id", "as_of_date"]
        customers[key].to_parquet(self._folder / "customers.parquet", index=False, coerce_timestamps="us")
        rows = self._read("customers.parquet").selectExpr("customer_id", "cast(as_of_date as date) as as_of_date")
        for service in services:
            file = home() / "features" / f"{client.SNAPSHOT_TABLES[service]}.parquet"
            rows = rows.join(self._spark.read.parquet(file.as_uri()).drop("event_timestamp"), key, "left")
        self._rows = rows
        files, manifest = _packed(current.model), Manifest.load()
        self._reader = partial(
            _rows_of_model,
            f"{current.version} {hashlib.blake2b(files).hexdigest()}",
            self._spark.sparkContext.broadcast((current.version, files)),
            manifest.packed_names,
            manifest.model_columns,
        )
        self._members = list(current.model.names)

    def mean_logits(self) -> tuple[np.ndarray, pd.Series]:
        """Return each customer's mean log-odds of the members and purchase forecast, both of shape (n_customers,)."""
        schema = ", ".join(f"{name} double" for name in (*self._members, "no_order_probability"))
        compute = partial(_compute_logits, self._reader)
        with errors_in_one_line():
            logits = self._spread(self._rows).mapInPandas(compute, f"customer_id string, {schema}")
            logits.write.parquet((self._folder / "logits").as_uri())
        table = ds.dataset(self._folder / "logits", format="parquet").to_table()
        by_member = {name: table[name].to_numpy() for name in self._members}
        return mean_logit(by_member), table["no_order_probability"].to_pandas()

    def scores(self, shift: float, manifest: str | None, scored_at: datetime) -> Iterator[pa.RecordBatch]:
        """Yield rows of ``churn_predictions``; call ``mean_logits`` first."""
        rows = self._rows.join(self._read("logits").drop("no_order_probability"), "customer_id")
        compute = partial(_compute_scores, self._reader, self._members, shift, manifest, scored_at)
        with errors_in_one_line():
            scored = self._spread(rows).mapInPandas(compute, from_arrow_schema(SCHEMA, prefer_timestamp_ntz=True))
            scored.write.parquet((self._folder / "scored").as_uri())
        for batch in ds.dataset(self._folder / "scored", format="parquet").to_batches():
            yield from pa.Table.from_batches([batch]).cast(SCHEMA).to_batches()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spread(self, rows: DataFrame) -> DataFrame:
        """Split rows into one part per task slot: Spark splits by bytes, but here the model takes the time."""
        return rows.repartition(self._spark.sparkContext.defaultParallelism, "customer_id")

    def _read(self, name: str) -> DataFrame:
        return self._spark.read.parquet((self._folder / name).as_uri())


def _rows_of_model(
    key: str, shipped: Broadcast, names: list[str], columns: list[str], rows: pd.DataFrame
) -> tuple[RegisteredModel, pd.DataFrame]:
    """Return the broadcast model, loaded once per worker, and the rows as it reads them."""
    if key not in _loaded:
        take_gpu()
        version, files = shipped.value
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(io.BytesIO(files)).extractall(folder)
            _loaded.clear()
            _loaded[key] = RegisteredModel(version, ChurnModel.load(Path(folder)))
    rows["as_of_date"] = pd.to_datetime(rows.as_of_date).astype("datetime64[us]")
    return _loaded[key], client.with_time(rows, names, columns)


def _compute_logits(read: Reader, batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for batch in batches:
        current, rows = read(batch)
        refuse_other_encoder(current, rows)
        logits = current.model.member_logits(*current.model.inputs(rows))
        yield pd.DataFrame(
            {"customer_id": rows.customer_id, **logits, "no_order_probability": rows.no_order_probability}
        )


def _compute_scores(
    read: Reader,
    members: list[str],
    shift: float,
    manifest: str | None,
    scored_at: datetime,
    batches: Iterator[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for batch in batches:
        logits = {name: batch.pop(name).to_numpy() for name in members}
        current, rows = read(batch)
        scored = score_columns(current, rows, shift=shift, manifest=manifest, member_logits=logits)
        yield pd.DataFrame(scored | {"scored_at": scored_at})[SCHEMA.names]


def _packed(model: ChurnModel) -> bytes:
    """Zip the files of a model, because executors may not reach the registry."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, "w") as archive:
        model.save(Path(folder, "model"))
        for file in sorted(Path(folder, "model").rglob("*")):
            if file.is_file():  # ZipInfo has a constant time, so that equal files give equal bytes
                archive.writestr(zipfile.ZipInfo(str(file.relative_to(Path(folder, "model")))), file.read_bytes())
    return packed.getvalue()
