"""The online store as the service uses it: whole values of few views, read and written without a table in between."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from inference.feature_store import client as feature_store

#: Seconds after which Redis is taken to be down.
REDIS_TIMEOUT = 0.4


class StoreDownError(Exception):
    """The online store does not answer, or nothing was materialised to it yet."""


class OnlineStore:
    """Feast's online store; of one thread at a time.

    Raises
    ------
    StoreDownError
        If nothing was applied yet; every method, if the store does not answer.
    """

    def __init__(self) -> None:
        try:
            # importing Feast takes seconds
            self._store = feature_store.open_store(timeout=REDIS_TIMEOUT)
            self._provider = self._store._get_provider()
            service = self._store.get_feature_service(feature_store.SCORES_SERVICE)
            updates = self._store.get_feature_service(feature_store.UPDATES_SERVICE)
            names = [p.name for p in (*service.feature_view_projections, *updates.feature_view_projections)]
            self._views = {name: self._store.get_feature_view(name) for name in names}
            tags = self._store.get_feature_service(feature_store.MODEL_SERVICE).tags
            #: Names of the numbers that the model reads, in its order.
            self.model_columns = tags["columns"].split(",")
        except Exception as error:
            raise StoreDownError("the online store does not answer") from error

    def read(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, dict] | None]:
        """Read the values of a view.

        Parameters
        ----------
        view : str
            Name of a feature view with one join key.
        keys : sequence of str
            Entities.

        Returns
        -------
        list
            Per entity, its event timestamp (UTC) and its values; None where it has none.
        """
        table = self._views[view]
        names = [feature.name for feature in table.features]
        try:
            found = self._provider.online_read(
                self._store.config, table, [_entity_key(table, key) for key in keys], names
            )
        except Exception as error:
            raise StoreDownError("the online store does not answer") from error
        return [
            None if moment is None else (moment.replace(tzinfo=moment.tzinfo or UTC), _values(values, names))
            for moment, values in found
        ]

    def write(self, view: str, values: Mapping[str, Mapping[str, str | bytes]], after: Mapping[str, datetime]) -> None:
        """Write texts or bytes of a view, as a push to it does, without pandas.

        Parameters
        ----------
        view : str
            Name of a feature view with one join key.
        values : mapping of str to mapping
            Values by entity and name.
        after : mapping of str to datetime
            Event timestamps that are in the store: what is written is newer, whatever the clock says.
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
            raise StoreDownError("the online store does not answer") from error


def _entity_key(table, key: str):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=table.join_keys, entity_values=[Value(string_val=key)])


def _value(value: str | bytes):
    from feast.protos.feast.types.Value_pb2 import Value

    return Value(bytes_val=value) if isinstance(value, bytes) else Value(string_val=value)


def _values(values: Mapping, names: Sequence[str]) -> dict:
    told = {}
    for name in names:
        value = values.get(name)
        kind = value.WhichOneof("val") if value is not None else None
        said = getattr(value, kind) if kind else None
        told[name] = list(said.val) if kind and kind.endswith("_list_val") else said
    return told
