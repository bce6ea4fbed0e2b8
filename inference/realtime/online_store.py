"""Reads and writes feature views of the online store row by row, without pandas."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from inference.feature_store.client import MODEL_SERVICE, SCORES_SERVICE, UPDATES_SERVICE, open_store

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

#: Seconds to wait for Redis.
REDIS_TIMEOUT = 0.4
NO_ANSWER = "the online store does not answer"


class StoreDownError(Exception):
    """The online store does not answer, or nothing was materialised to it yet."""


class OnlineStore:
    """Feast's online store; not thread-safe.

    Raises
    ------
    StoreDownError
        If ``feast apply`` has not run, or the store does not answer; methods raise it as well.
    """

    def __init__(self) -> None:
        try:
            self._store = open_store(timeout=REDIS_TIMEOUT)
            self._provider = self._store._get_provider()
            service = self._store.get_feature_service(SCORES_SERVICE)
            updates = self._store.get_feature_service(UPDATES_SERVICE)
            names = [p.name for p in (*service.feature_view_projections, *updates.feature_view_projections)]
            self._views = {name: self._store.get_feature_view(name) for name in names}
            tags = self._store.get_feature_service(MODEL_SERVICE).tags
            #: Names of the numbers that the model reads, in its order.
            self.model_columns = tags["columns"].split(",")
        except Exception as error:
            raise StoreDownError(NO_ANSWER) from error

    def read(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        """Read rows of a view with one join key: per entity, event timestamp (UTC) and values by feature, or None."""
        from feast.type_map import feast_value_type_to_python_type as python_value

        table = self._views[view]
        names = [feature.name for feature in table.features]
        try:
            entities = [_entity_key(table, key) for key in keys]
            rows = self._provider.online_read(self._store.config, table, entities, names)
        except Exception as error:
            raise StoreDownError(NO_ANSWER) from error
        read: list[tuple[datetime, dict[str, Any]] | None] = []
        for moment, values in rows:
            if moment is None:
                read.append(None)
            else:
                own = {name: python_value(values[name]) if name in values else None for name in names}
                read.append((moment.replace(tzinfo=moment.tzinfo or UTC), own))
        return read

    def write(self, view: str, values: Mapping[str, Mapping[str, str | bytes]], after: Mapping[str, datetime]) -> None:
        """Write texts or bytes by entity and name, as a push does.

        ``after`` has the rows' event timestamps in the store: they get later ones, even if the clock is behind.
        """
        table, now = self._views[view], datetime.now(UTC)
        rows = [
            (
                _entity_key(table, key),
                {name: _value(value) for name, value in own.items()},
                max(now, after[key] + timedelta(microseconds=1)) if key in after else now,
                now,
            )
            for key, own in values.items()
        ]
        try:
            self._provider.online_write_batch(self._store.config, table, rows, None)
        except Exception as error:
            raise StoreDownError(NO_ANSWER) from error


def _entity_key(view: "FeatureView", key: str) -> "EntityKey":
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    return EntityKey(join_keys=view.join_keys, entity_values=[_value(key)])


def _value(value: str | bytes) -> "Value":
    from feast.protos.feast.types.Value_pb2 import Value

    return Value(bytes_val=value) if isinstance(value, bytes) else Value(string_val=value)
