"""Encoding of texts by Spark, one partition at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from inference.errors import ChurnRadarError
from inference.text.encoder.encoder import Encoder
from inference.text.encoder.vector_cache import TEXTS_PER_SAVE
from inference.warehouse import spark
from inference.warehouse.spark import errors_in_one_line, take_gpu

#: Smallest number of texts that is worth another partition.
TEXTS_PER_PARTITION = 128


class SparkEncoder:
    """The shop's encoder, loaded once by each Python worker of Spark."""

    def __init__(self) -> None:
        self._driver = Encoder.shared()
        self.settings = self._driver.settings
        self._spark = spark.session(tables=False)
        self._partitions = self._spark.sparkContext.defaultParallelism
        self.texts_per_save = TEXTS_PER_SAVE["cpu"] * self._partitions

    @property
    def revision(self) -> str:
        """Revision of the encoder on the driver."""
        return self._driver.revision

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; see ``Encoder.encode``.

        Raises
        ------
        ChurnRadarError
            If an executor has another encoder.
        """
        rows = self._spark.createDataFrame(pd.DataFrame({"position": range(len(texts)), "text": list(texts)}))
        # few texts form one batch, as in a single process
        partitions = min(self._partitions, len(texts) // TEXTS_PER_PARTITION + 1)
        schema = "position long, revision string, embedding array<float>"
        with errors_in_one_line():
            encoded = rows.repartition(partitions).mapInPandas(_embed, schema).toArrow()
        if others := set(encoded["revision"].to_pylist()) - {self.revision}:
            raise ChurnRadarError(
                f"encoder {self.settings.name} is revision {self.revision} here, but {others.pop()} on an executor; "
                "expected one encoder, with the same files and libraries, on all machines"
            )
        encoded = encoded.sort_by("position")
        return np.asarray(encoded["embedding"].combine_chunks().flatten(), dtype=np.float32).reshape(len(texts), -1)


def _embed(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    take_gpu()
    for rows in batches:
        encoder = Encoder.shared()
        embedded = encoder.encode(list(rows.text))
        yield pd.DataFrame({"position": rows.position, "revision": encoder.revision, "embedding": list(embedded)})
