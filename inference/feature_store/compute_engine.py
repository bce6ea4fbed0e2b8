"""A compute engine for Feast that materialises views batch by batch, in constant memory.

Feast's local engine reads all rows of a view into memory and converts them to pandas and back for each step of its
plan. Views without a transformation need no such steps: their rows are written to the online store as they are read.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
from feast import FeatureView
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.backends.pandas_backend import PandasBackend
from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig
from feast.infra.compute_engines.local.feature_builder import LocalFeatureBuilder
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.compute_engines.utils import create_offline_store_retrieval_job
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.utils import _convert_arrow_to_proto, _validate_vector_field_lengths
from feast.value_type import ValueType

from inference.feature_store.redis_store import OneKeyRedisOnlineStore, batch_source

#: Threads that write to Redis: one prepares a batch while another one's batch is stored.
WRITERS = 2


class StreamingComputeEngineConfig(LocalComputeEngineConfig):
    """Configuration of the engine below; Feast derives its name from the engine's."""


class StreamingComputeEngine(LocalComputeEngine):
    """Feast's local engine, which streams views without transformations."""

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **kwargs: object
    ) -> LocalMaterializationJob:
        settings = self.repo_config.materialization_config
        if not (_is_plain(task) and settings.pull_latest_features and settings.online_write_batch_size):
            return super()._materialize_one(registry, task, **kwargs)
        job_id = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            self._write_all(task.feature_view, self._batches(registry, task, settings.online_write_batch_size))
        except Exception as error:  # Feast records the state in its registry, then raises it
            return LocalMaterializationJob(job_id, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(job_id, MaterializationJobStatus.SUCCEEDED)

    def _batches(self, registry: BaseRegistry, task: MaterializationTask, rows: int) -> Iterator[pa.RecordBatch]:
        """Read the newest row of each entity."""
        builder = LocalFeatureBuilder(registry, task, PandasBackend())
        job = create_offline_store_retrieval_job(
            data_source=batch_source(task.feature_view),
            column_info=builder.get_column_info(task.feature_view),
            context=self.get_execution_context(registry, task),
            start_time=task.start_time,
            end_time=task.end_time,
        )
        return _stream(job, rows)

    def _write_all(self, view: FeatureView, batches: Iterator[pa.RecordBatch]) -> None:
        keys = {entity.name: entity.dtype.to_value_type() for entity in view.entity_columns}
        if not isinstance(self.online_store, OneKeyRedisOnlineStore) or [*keys.values()] != [ValueType.STRING]:
            for batch in batches:
                rows = _convert_arrow_to_proto(batch, view, keys)
                self.online_store.online_write_batch(self.repo_config, view, rows, lambda _: None)
            return
        with ThreadPoolExecutor(WRITERS) as writers:
            waiting: deque[Future] = deque()
            for batch in batches:
                _validate_vector_field_lengths(batch, view)
                waiting.append(writers.submit(self.online_store.write_arrow, self.repo_config, view, batch))
                if len(waiting) > WRITERS:
                    waiting.popleft().result()
            for last in waiting:
                last.result()


def _is_plain(task: MaterializationTask) -> bool:
    view = task.feature_view
    return (
        type(view) is FeatureView
        and view.online
        and not view.offline
        and task.only_latest
        and not batch_source(view).field_mapping
        and not any(
            getattr(view, step, None) for step in ("source_views", "feature_transformation", "enable_validation")
        )
    )


def _stream(job: RetrievalJob, rows: int) -> Iterator[pa.RecordBatch]:
    if isinstance(job, IbisRetrievalJob):
        batches = job.table.to_pyarrow_batches(chunk_size=rows)
    else:
        batches = job.to_arrow().to_batches(max_chunksize=rows)
    return (batch for batch in batches if batch.num_rows)
