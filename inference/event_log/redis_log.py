"""The log of accepted events in Redis streams: for services on several machines whose scores are in Redis too."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from inference.errors import ChurnRadarError
from inference.event_log.events import COLUMNS, OWNED, Event, EventConflictError, EventLogDownError, LoggedEvent
from inference.event_log.log import NOT_LOGGED, OTHER_CONTENT, OTHER_CUSTOMER, PAGE, DroppedEvent, EventLog
from inference.event_log.sql_log import content

#: Seconds to wait for an answer.
ANSWER_SECONDS = 5
#: Values of ``maxmemory-policy`` under which Redis deletes no key without a time to live.
KEEPING_POLICIES = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Begins the name of each key; the braces keep all on one server of a cluster.
PREFIX = "{churn_radar}:events:"
#: ``log`` and ``dropped`` are streams whose entries have positions as ids. ``ids`` has hash and position by event id,
#: ``owners`` the customer by key of a row, ``of:<customer>`` their positions, ``customers`` everybody's newest one.
_FUNCTIONS = """
local function key(name) return '{churn_radar}:events:' .. name end
local function entry(stream, position)
    local found = redis.call('XRANGE', key(stream), position .. '-0', position .. '-0')[1]
    local fields = {}
    for i = 1, #found[2], 2 do fields[found[2][i]] = found[2][i + 1] end
    return fields
end
local function now()
    local time = redis.call('TIME')
    return time[1] .. string.format('%06d', time[2])
end
local function next_position() return redis.call('INCR', key('position')) end
local function add(position, event, received)
    redis.call('XADD', key('log'), position .. '-0', 'event', event.id, 'customer', event.customer,
        'received', received, 'hash', event.hash, 'rows', event.rows, 'keys', cjson.encode(event.keys))
    redis.call('HSET', key('ids'), event.id, event.hash .. ':' .. position)
    redis.call('ZADD', key('of:' .. event.customer), position, position)
    redis.call('ZADD', key('customers'), 'GT', position, event.customer)
    for _, row in ipairs(event.keys) do redis.call('HSET', key('owners'), row, event.customer) end
end
local function add_dropped(position, id, customer, received, dropped, reason, hash)
    redis.call('XADD', key('dropped'), position .. '-0', 'event', id, 'customer', customer, 'received', received,
        'at', dropped, 'reason', reason, 'hash', hash)
    redis.call('SADD', key('dropped_hashes'), hash .. ':' .. id)
    redis.call('HSET', key('newest_dropped'), customer, position)
    redis.call('ZADD', key('customers'), 'GT', position, customer)
end
local function remove(position)
    local event = entry('log', position)
    redis.call('XDEL', key('log'), position .. '-0')
    redis.call('HDEL', key('ids'), event.event)
    redis.call('ZREM', key('of:' .. event.customer), position)
    for _, row in ipairs(cjson.decode(event.keys)) do redis.call('HDEL', key('owners'), row) end
    return event
end
"""
#: Per group: for each event, whether it is new; or which event is refused, and the key of another's row or ''.
_APPEND = """
if redis.call('GET', key('identity')) ~= ARGV[2] then
    return redis.error_reply('the log was lost, or is another one')
end
local results, received = {}, now()
for g, events in ipairs(cjson.decode(ARGV[1])) do
    local hashes, owners, new, refused = {}, {}, {}, nil
    for i, event in ipairs(events) do
        local logged = redis.call('HGET', key('ids'), event.id)
        local hash = hashes[event.id] or (logged and string.match(logged, '^%x+'))
        if hash and hash ~= event.hash then refused = {i, ''} end
        new[i] = 0
        if not hash and redis.call('SISMEMBER', key('dropped_hashes'), event.hash .. ':' .. event.id) == 0 then
            new[i], hashes[event.id] = 1, event.hash
            for _, row in ipairs(event.keys) do
                local owner = owners[row] or redis.call('HGET', key('owners'), row) or event.customer
                if owner ~= event.customer then refused = {i, row} end
                owners[row] = owner
            end
        end
        if refused then break end
    end
    results[g] = {refused or new, refused and 1 or 0}
    if not refused then
        for i, event in ipairs(events) do
            if new[i] == 1 then add(next_position(), event, received) end
        end
    end
end
return results
"""
_DROP = """
local logged = redis.call('HGET', key('ids'), ARGV[1])
if not logged then return 0 end
local event, rows = remove(string.match(logged, '%d+$')), {}
for _, row in ipairs(cjson.decode(event.keys)) do rows[row] = true end
for _, other in ipairs(redis.call('ZRANGE', key('of:' .. event.customer), 0, -1)) do
    for _, row in ipairs(cjson.decode(entry('log', other).keys)) do
        if rows[row] then redis.call('HSET', key('owners'), row, event.customer) end
    end
end
add_dropped(next_position(), event.event, event.customer, event.received, now(), ARGV[2], event.hash)
return 1
"""
_FORGET = """
local count = 0
for _, customer in ipairs(ARGV) do
    for _, position in ipairs(redis.call('ZRANGE', key('of:' .. customer), 0, -1)) do
        remove(position)
        count = count + 1
    end
    for _, found in ipairs(redis.call('XRANGE', key('dropped'), '-', '+')) do
        local event = entry('dropped', string.match(found[1], '^%d+'))
        if event.customer == customer then
            redis.call('XDEL', key('dropped'), found[1])
            redis.call('SREM', key('dropped_hashes'), event.hash .. ':' .. event.event)
            count = count + 1
        end
    end
    redis.call('HDEL', key('newest_dropped'), customer)
    redis.call('ZREM', key('customers'), customer)
end
return count
"""
_BEGIN_AFTER = """
local newest = tonumber(redis.call('GET', key('position')) or 0)
if newest < tonumber(ARGV[1]) then redis.call('SET', key('position'), ARGV[1]) end
"""
_RESTORE = (
    """
for _, event in ipairs(cjson.decode(ARGV[2])) do add(event.position, event, event.received) end
for _, event in ipairs(cjson.decode(ARGV[3])) do
    add_dropped(event.position, event.id, event.customer, event.received, event.at, event.reason, event.hash)
end
"""
    + _BEGIN_AFTER
)


class RedisEventLog(EventLog):
    """Streams on the server that ``CHURN_REDIS`` names, which has to write each change to disk before it answers."""

    kind = "redis"

    def __init__(self) -> None:
        address = os.environ.get("CHURN_REDIS", "")
        if not address:
            raise ChurnRadarError("CHURN_EVENTS=redis needs CHURN_REDIS; expected host:port of Redis")
        self._address, *options = address.split(",")
        host, _, port = self._address.partition(":")
        try:
            self._client: Any = Redis(
                host=host,
                port=int(port or 6379),
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 1),  # the connection may have been idle for long
                decode_responses=True,
                **{name: _value(value) for name, _, value in (option.partition("=") for option in options)},
            )
        except (TypeError, ValueError):  # not shown: it may hold a password
            expected = "expected host:port, and options after commas, as in 127.0.0.1:6379,db=1,ssl=true"
            raise ChurnRadarError(f"CHURN_REDIS cannot be read; {expected} (CHURN_EVENTS=redis)") from None
        self._refuse_forgetful_server()
        with self._answering():
            self._client.set(_key("identity"), uuid4().hex, nx=True)
        self._identity = self.identity()

    def _refuse_forgetful_server(self) -> None:
        """Raise ChurnRadarError where Redis may lose or evict what it acknowledged."""
        expected = {
            "appendonly": ("yes",),
            "appendfsync": ("always",),
            "no-appendfsync-on-rewrite": ("no",),
            "maxmemory-policy": KEEPING_POLICIES,
        }
        for name, allowed in expected.items():
            with self._answering():
                value = self._client.config_get(name).get(name)
            if value not in allowed:
                raise ChurnRadarError(
                    f"Redis at {self._address} has {name} {value}; expected {allowed[0]}: an event has to be on disk "
                    "when it is acknowledged, and to stay (CHURN_EVENTS=redis)"
                )

    def identity(self) -> str:
        """See ``EventLog``."""
        with self._answering():
            return self._client.get(_key("identity"))

    def begin_after(self, sequence: int) -> None:
        """See ``EventLog``."""
        self._run(_BEGIN_AFTER, sequence)

    def append_all(self, groups: Sequence[Sequence[Event]]) -> list[list[bool] | EventConflictError]:
        """See ``EventLog``."""
        packed = [[_packed(event) for event in events] for events in groups]
        answers = self._run(_APPEND, json.dumps(packed), self._identity)
        results: list[list[bool] | EventConflictError] = []
        for events, (answer, is_refused) in zip(groups, answers, strict=True):
            if is_refused:
                number, row = answer
                table, _, key = row.partition(":")
                content_differs = OTHER_CONTENT.format(events[number - 1].event_id)
                problem = OTHER_CUSTOMER.format(COLUMNS[table][0], key) if row else content_differs
                results.append(EventConflictError(problem))
            else:
                results.append([bool(is_new) for is_new in answer])
        return results

    def restore(self, events: Iterable[LoggedEvent], dropped: Iterable[DroppedEvent]) -> None:
        """See ``EventLog``; in pages, as Redis answers nobody else meanwhile. A killed process leaves some of them."""
        packed = (
            _packed(event) | {"position": event.sequence, "received": _microseconds(event.received_at)}
            for event in events
        )
        removed = (
            {
                "position": one.sequence,
                "id": one.event_id,
                "customer": one.customer_id,
                "received": _microseconds(datetime.fromisoformat(one.received_at)),
                "at": _microseconds(datetime.fromisoformat(one.dropped_at)),
                "reason": one.reason,
                "hash": one.content_hash.hex(),
            }
            for one in dropped
        )
        while page := list(islice(packed, PAGE)):
            self._run(_RESTORE, page[-1]["position"], json.dumps(page), "[]")
        while page := list(islice(removed, PAGE)):
            self._run(_RESTORE, page[-1]["position"], "[]", json.dumps(page))

    def since(self, sequence: int = 0, customer_id: str | None = None) -> Iterator[LoggedEvent]:
        """See ``EventLog``."""
        if customer_id is not None:
            yield from self._of_customer(customer_id, sequence)
            return
        while True:
            with self._answering():
                page = self._client.xrange(_key("log"), f"{sequence + 1}-0", "+", count=PAGE)
            yield from (_event(*entry) for entry in page)
            if len(page) < PAGE:
                return
            sequence = _position(page[-1][0])

    def latest(self, customer_id: str | None = None, received_from: datetime | None = None) -> Iterator[LoggedEvent]:
        """See ``EventLog``."""
        events = reversed(self._of_customer(customer_id, 0)) if customer_id is not None else self._backwards()
        return (event for event in events if received_from is None or event.received_at >= received_from)

    def get(self, event_id: str) -> LoggedEvent | None:
        """See ``EventLog``."""
        with self._answering():
            logged = self._client.hget(_key("ids"), event_id)
        return next(iter(self._at([logged.rpartition(":")[2]])), None) if logged else None

    def drop(self, event_id: str, reason: str) -> LoggedEvent:
        """See ``EventLog``."""
        event = self.get(event_id)
        if event is None or not self._run(_DROP, event_id, reason):
            raise ChurnRadarError(NOT_LOGGED.format(event_id))
        return event

    def all_dropped(self) -> list[DroppedEvent]:
        """See ``EventLog``."""
        with self._answering():
            entries = self._client.xrange(_key("dropped"))
        return [
            DroppedEvent(
                _position(position),
                fields["event"],
                fields["customer"],
                _moment(fields["received"]).isoformat(),
                _moment(fields["at"]).isoformat(),
                fields["reason"],
                bytes.fromhex(fields["hash"]),
            )
            for position, fields in entries
        ]

    def newest_by_customer(self, sequence: int) -> dict[str, int]:
        """See ``EventLog``."""
        with self._answering():
            newest = self._client.zrange(
                _key("customers"), f"({sequence}", "+inf", byscore=True, withscores=True, offset=0, num=-1
            )
        return {customer: int(position) for customer, position in newest}

    def newest_dropped(self, customer_id: str) -> int:
        """See ``EventLog``."""
        with self._answering():
            return int(self._client.hget(_key("newest_dropped"), customer_id) or 0)

    def newest(self) -> int:
        """See ``EventLog``."""
        with self._answering():
            return int(self._client.get(_key("position")) or 0)

    def __len__(self) -> int:
        """See ``EventLog``."""
        with self._answering():
            return self._client.xlen(_key("log"))

    def forget(self, customer_ids: Collection[str]) -> int:
        """See ``EventLog``; Redis's file on disk has them until Redis rewrites it."""
        return self._run(_FORGET, *customer_ids)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _of_customer(self, customer_id: str, after: int) -> list[LoggedEvent]:
        with self._answering():
            positions = self._client.zrange(
                _key(f"of:{customer_id}"), f"({after}", "+inf", byscore=True, offset=0, num=-1
            )
        return self._at(positions)

    def _backwards(self) -> Iterator[LoggedEvent]:
        end = "+"
        while True:
            with self._answering():
                page = self._client.xrevrange(_key("log"), end, "-", count=PAGE)
            yield from (_event(*entry) for entry in page)
            if len(page) < PAGE:
                return
            end = f"({page[-1][0]}"

    def _at(self, positions: Sequence[str]) -> list[LoggedEvent]:
        with self._answering(), self._client.pipeline(transaction=False) as pipeline:
            for position in positions:
                pipeline.xrange(_key("log"), f"{position}-0", f"{position}-0")
            return [_event(*entry) for found in pipeline.execute() for entry in found]

    def _run(self, script: str, *arguments: Any) -> Any:
        with self._answering():
            return self._client.register_script(_FUNCTIONS + script)(args=arguments)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            expected = "expected the log of accepted events (CHURN_EVENTS=redis)"
            raise EventLogDownError(f"Redis at {self._address}: {error}; {expected}") from None


def _key(name: str) -> str:
    return PREFIX + name


def _packed(event: Event) -> dict[str, Any]:
    rows, digest = content(event)
    keys = [f"{table}:{row[COLUMNS[table][0]]}" for table in OWNED for row in event.rows.get(table, ())]
    return {"id": event.event_id, "customer": event.customer_id, "hash": digest.hex(), "rows": rows, "keys": keys}


def _event(position: str, fields: dict[str, str]) -> LoggedEvent:
    rows, received_at = json.loads(fields["rows"]), _moment(fields["received"])
    return LoggedEvent(fields["event"], fields["customer"], rows, _position(position), received_at)


def _position(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _moment(microseconds: str) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))


def _microseconds(moment: datetime) -> str:
    return str((moment - EPOCH) // timedelta(microseconds=1))


def _value(text: str) -> Any:
    """Read a setting of ``CHURN_REDIS`` as Feast does."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
