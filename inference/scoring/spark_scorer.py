"""Scoring by Spark: the functions of ``score``, one partition at a time.

Python on an executor has this package and loads a model once: workers live as long as the executor does.
"""

import hashlib
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from inference.feature_store import client as feature_store
from inference.home import home
from inference.model.churn_model import ChurnModel
from inference.registry.registry import RegisteredModel
from inference.scoring import score as scoring
from inference.warehouse import spark
from inference.warehouse.manifest import Manifest
from inference.warehouse.spark import errors_in_one_line, take_gpu

#: The model that this process has loaded, by its version and the fingerprint of its files.
_loaded: dict[str, RegisteredModel] = {}


class SparkScorer:
    """Scores customers of one date where Spark's executors are; what they say is read back batch by batch.

    Parameters
    ----------
    current : RegisteredModel
        Model and version.
    customers : DataFrame
        ``customer_id`` and ``as_of_date``.
    services : sequence of str
        The services whose features the model reads.
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
            file = home() / "features" / f"{feature_store.SNAPSHOT_TABLES[service]}.parquet"
            rows = rows.join(self._spark.read.parquet(file.as_uri()).drop("event_timestamp"), key, "left")
        self._rows = rows
        files, manifest = _packed(current.model), Manifest.load()
        self._read_by = partial(
            _rows_of_model,
            f"{current.version} {hashlib.blake2b(files).hexdigest()}",
            self._spark.sparkContext.broadcast((current.version, files)),
            manifest.packed_names,
            manifest.model_columns,
        )
        self._members = list(current.model.names)

    def members(self) -> tuple[np.ndarray, pd.Series]:
        """Return the mean logit of the model's members for each customer, and the purchase forecast."""
        schema = ", ".join(f"{name} double" for name in (*self._members, "no_order_probability"))
        with errors_in_one_line():
            said = self._spread(self._rows).mapInPandas(partial(_say, self._read_by), f"customer_id string, {schema}")
            said.write.parquet((self._folder / "said").as_uri())
        table = ds.dataset(self._folder / "said", format="parquet").to_table()
        logits = {name: table[name].to_numpy() for name in self._members}
        return scoring.mean_logit(logits), table["no_order_probability"].to_pandas()

    def scored(self, shift: float, manifest: str | None, scored_at: datetime) -> Iterator[pa.RecordBatch]:
        """Yield the rows of ``churn_predictions``, at the level of all customers together."""
        rows = self._rows.join(self._read("said").drop("no_order_probability"), "customer_id")
        told = partial(_tell, self._read_by, self._members, shift, manifest, scored_at)
        with errors_in_one_line():
            scored = self._spread(rows).mapInPandas(told, from_arrow_schema(scoring.SCHEMA, prefer_timestamp_ntz=True))
            scored.write.parquet((self._folder / "scored").as_uri())
        for batch in ds.dataset(self._folder / "scored", format="parquet").to_batches():
            yield from pa.Table.from_batches([batch]).cast(scoring.SCHEMA).to_batches()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spread(self, rows: DataFrame) -> DataFrame:
        """Give every task slot a part: Spark counts bytes, but what costs time here is the model."""
        return rows.repartition(self._spark.sparkContext.defaultParallelism, "customer_id")

    def _read(self, name: str) -> DataFrame:
        return self._spark.read.parquet((self._folder / name).as_uri())


def _rows_of_model(key: str, shipped, names: list[str], columns: list[str], rows: pd.DataFrame) -> tuple:
    """Return the model that was shipped and the rows as it reads them."""
    if key not in _loaded:
        take_gpu()
        version, files = shipped.value
        with tempfile.TemporaryDirectory() as folder:
            zipfile.ZipFile(io.BytesIO(files)).extractall(folder)
            _loaded.clear()
            _loaded[key] = RegisteredModel(version, ChurnModel.load(Path(folder)))
    rows["as_of_date"] = pd.to_datetime(rows.as_of_date).astype("datetime64[us]")
    return _loaded[key], feature_store.with_time(rows, names, columns)


def _say(read, batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for batch in batches:
        current, rows = read(batch)
        scoring.refuse_other_encoder(current, rows)
        logits = current.model.member_logits(*current.model.inputs(rows))
        yield pd.DataFrame(
            {"customer_id": rows.customer_id, **logits, "no_order_probability": rows.no_order_probability}
        )


def _tell(
    read,
    members: list[str],
    shift: float,
    manifest: str | None,
    scored_at: datetime,
    batches: Iterator[pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    for batch in batches:
        logits = {name: batch.pop(name).to_numpy() for name in members}
        current, rows = read(batch)
        scored = scoring.score_columns(current, rows, shift=shift, manifest=manifest, member_logits=logits)
        yield pd.DataFrame(scored | {"scored_at": scored_at})[scoring.SCHEMA.names]


def _packed(model: ChurnModel) -> bytes:
    """Return the files of a model, as an executor may have no registry at hand."""
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, "w") as archive:
        model.save(Path(folder, "model"))
        for file in sorted(Path(folder, "model").rglob("*")):
            if file.is_file():  # with no time, so that equal files are equal bytes
                archive.writestr(zipfile.ZipInfo(str(file.relative_to(Path(folder, "model")))), file.read_bytes())
    return packed.getvalue()
