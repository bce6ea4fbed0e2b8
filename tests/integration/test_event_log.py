"""The event log in SQLite, Redis and PostgreSQL does the same; builds read it as Parquet."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Thread

import psycopg
import pyarrow.parquet as pq
import pytest
from redis import Redis

from inference.cli_events import copy
from inference.erasure.erase import erase
from inference.errors import ChurnRadarError
from inference.event_log import postgres_log
from inference.event_log.events import Event, EventConflictError, EventLogDownError, LoggedEvent
from inference.event_log.export import export
from inference.event_log.log import EventLog
from inference.event_log.opening import KINDS, connect, existing_log, open_log, used
from inference.event_log.sqlite_log import SqliteEventLog
from inference.maintenance.doctor import CHECKS


def order(event_id: str, order_id: str, *products: str, at: str = "2026-11-01T12:00:00+01:00") -> Event:
    rows = {"orders": [{"order_id": order_id, "ordered_at": at}]}
    if products:
        rows["order_items"] = [{"order_id": order_id, "product_id": product} for product in products]
    return Event(event_id, "c1", rows)


@pytest.fixture(autouse=True)
def churn_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def sqlite_place(churn_home) -> None:
    """A home that is empty."""


@pytest.fixture
def redis_place(redis, monkeypatch) -> Redis:
    """A Redis that is empty, in the environment."""
    monkeypatch.setenv("CHURN_REDIS", redis)
    client = Redis(port=int(redis.rpartition(":")[2]))
    client.flushall()
    return client


@pytest.fixture
def postgres_place(postgres_server, monkeypatch) -> None:
    """A PostgreSQL without a log, in the environment."""
    for name, value in postgres_server.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("drop schema if exists churn_radar_events cascade")


@pytest.fixture(params=KINDS)
def log(request, monkeypatch) -> Iterator[EventLog]:
    """An empty log of each kind."""
    request.getfixturevalue(f"{request.param}_place")
    monkeypatch.setenv("CHURN_EVENTS", request.param)
    with closing(open_log()) as log:
        yield log


@pytest.fixture
def others(sqlite_place, redis_place, postgres_place) -> Iterator[list[EventLog]]:
    """An empty log of each kind, at the same time."""
    logs = [connect(kind) for kind in KINDS]
    yield logs
    for log in logs:
        log.close()


def test_an_event_is_logged_once(log):
    assert log.append_all([[order("a", "1"), order("b", "2"), order("a", "1")]]) == [[True, True, False]]
    assert log.append_all([[order("b", "2")]]) == [[False]]
    assert [(event.sequence, event.event_id) for event in log.since()] == [(1, "a"), (2, "b")]
    assert [event.event_id for event in log.since(1)] == ["b"]
    assert list(log.since(0, "nobody")) == []
    assert log.newest() == 2


def test_a_log_that_was_lost_goes_on_behind_what_a_build_has_read(log):
    log.begin_after(7)
    log.append_all([[order("a", "1")]])
    log.begin_after(7)
    log.begin_after(3)
    log.append_all([[order("b", "2")]])
    assert [(event.sequence, event.event_id) for event in log.since(7)] == [(8, "a"), (9, "b")]


def test_one_that_contradicts_takes_all_that_came_with_it_back(log):
    log.append_all([[order("a", "1")]])
    (error,) = log.append_all([[order("b", "2"), order("a", "9")]])
    assert isinstance(error, EventConflictError)
    assert str(error) == "event_id a was used for other content"
    assert [event.event_id for event in log.since()] == ["a"]


@pytest.mark.parametrize(
    ("table", "key"), [("orders", "order_id"), ("reviews", "review_id"), ("support_tickets", "ticket_id")]
)
def test_a_key_belongs_to_one_customer(log, table, key):
    def event(event_id: str, customer_id: str, value: str) -> Event:
        return Event(event_id, customer_id, {table: [{key: value, "customer_id": customer_id}]})

    assert log.append_all([[event("a", "c1", "7")]]) == [[True]]
    others, own, both = log.append_all(
        [
            [event("b", "c2", "8"), event("c", "c2", "7")],
            [event("d", "c1", "7"), event("a", "c1", "7")],
            [event("e", "c1", "9"), event("f", "c2", "9")],
        ]
    )
    assert str(others) == f"{key} 7 belongs to another customer"
    assert own == [True, False]
    assert str(both) == f"{key} 9 belongs to another customer"
    assert [logged.event_id for logged in log.since()] == ["a", "d"]
    log.drop("a", "of another customer")
    assert isinstance(log.append_all([[event("g", "c2", "7")]])[0], EventConflictError), "d has the same key"
    log.drop("d", "of another customer")
    assert log.append_all([[event("g", "c2", "7")]]) == [[True]]


def test_a_log_of_an_earlier_version_gets_its_indexes_and_positions(churn_home):
    log = SqliteEventLog()
    log.execute("drop index events_of_orders")
    log.execute("delete from sqlite_sequence")
    log.close()
    log = SqliteEventLog()
    assert log.append_all([[order("a", "1")]]) == [[True]]
    plan = log.execute(
        "explain query plan select 1 from events where json_extract(rows, '$.orders[0].order_id') = '1'"
    ).fetchall()
    assert "events_of_orders" in str(plan)
    log.close()


def test_another_process_sees_what_was_appended(log):
    log.append_all([[order("a", "1")]])
    with closing(connect(log.kind)) as other:
        (event,) = other.since()
    assert event.rows == order("a", "1").rows
    assert abs((datetime.now(UTC) - event.received_at).total_seconds()) < 60


def test_versions_are_exported_where_arrival_tells_them_apart(log, tmp_path):
    log.append_all([[order("a", "1", "tea", "cup")]])
    log.append_all([[order("b", "1", "tea")]])
    written = export(log, tmp_path)
    assert {table: n for table, n in written.items() if n} == {"orders": 2, "order_items": 1}
    assert not (tmp_path / "reviews.parquet").exists()
    assert pq.read_table(tmp_path / "through.parquet")["through"].to_pylist() == [2]
    assert export(log, tmp_path) == {}, "nothing is new"
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    assert {row["ordered_at"] for row in orders} == {datetime(2026, 11, 1, 11)}
    assert orders[0]["loaded_at"] < orders[1]["loaded_at"]
    (item,) = pq.read_table(tmp_path / "order_items.parquet").to_pylist()
    assert (item["order_id"], item["product_id"]) == ("1", "tea")
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def in_new_york(monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_utc_on_a_machine_of_any_time_zone(log, tmp_path, in_new_york):
    # the service writes times without an offset
    log.append_all([[order("a", "1", at="2026-11-01T11:00:00"), order("b", "2", at="2026-11-01T12:00:00+01:00")]])
    export(log, tmp_path)
    orders = pq.read_table(tmp_path / "orders.parquet").to_pylist()
    assert [row["ordered_at"] for row in orders] == [datetime(2026, 11, 1, 11)] * 2
    assert abs((datetime.now(UTC).replace(tzinfo=None) - orders[0]["loaded_at"]).total_seconds()) < 60


def test_a_log_without_events_exports_no_table(log, tmp_path):
    assert set(export(log, tmp_path).values()) == {0}
    assert [file.name for file in tmp_path.glob("*.parquet")] == ["through.parquet"]


def test_of_two_requests_at_once_the_contradictory_one_is_refused_alone(log):
    log.append_all([[order("a", "1")]])
    first, second = log.append_all([[order("b", "2"), order("a", "9")], [order("c", "3")]])
    assert isinstance(first, EventConflictError)
    assert second == [True]
    assert [event.event_id for event in log.since()] == ["a", "c"]
    assert log.newest_by_customer(0) == {"c1": 2}


@pytest.mark.parametrize("name", ["orders", "through"])
def test_a_damaged_file_is_written_again(log, tmp_path, name):
    log.append_all([[order("a", "1")]])
    export(log, tmp_path)
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 garbage")
    assert export(log, tmp_path)["orders"] == 1
    assert pq.read_table(tmp_path / "orders.parquet")["order_id"].to_pylist() == ["1"]
    assert export(log, tmp_path) == {}


def test_a_log_that_was_lost_or_is_an_older_one_takes_nothing_from_what_was_exported(log, tmp_path):
    log.append_all([[order("a", "1"), order("b", "2")]])
    export(log, tmp_path)
    with closing(SqliteEventLog(tmp_path / "new.db")) as other:
        assert export(other, tmp_path) == {}
        other.append_all([[order("a", "1")]])
        assert export(other, tmp_path) == {}
    assert pq.read_table(tmp_path / "orders.parquet")["order_id"].to_pylist() == ["1", "2"]


#: Texts that a format of a log might not carry through.
WORDS = ("plain", "Łódź 🙂 \"'\\ {churn}", "a:b", "1-0", "", " ", "?", "%s", "%", "\x1b[31m\n\t")
CUSTOMERS = ("c1", "c2", "c:3", "Ł 🙂")


def test_the_same_happens_in_each_log(others):
    """Random appends, drops and erasures of few ids, so that many contradict."""
    rng = Random(7)
    for _ in range(300):
        step = rng.random()
        if step < 0.7:
            groups = [[random_event(rng) for _ in range(rng.randint(1, 4))] for _ in range(rng.randint(1, 3))]
            check_same(others, lambda log, groups=groups: [str(result) for result in log.append_all(groups)])
        elif step < 0.9:
            event_id = f"e{rng.randrange(40)}"
            check_same(others, lambda log, event_id=event_id: outcome(log, event_id))
        else:
            customer = rng.choice(CUSTOMERS)
            check_same(others, lambda log, customer=customer: log.forget([customer]))
            check_same(others, lambda log, customer=customer: [*log.since(0, customer)])
        check_same(others, contents)
    assert len(others[0]) > 3


def random_event(rng: Random) -> Event:
    number = rng.randrange(40)
    customer, words = CUSTOMERS[number % 4 if rng.random() < 0.9 else rng.randrange(4)], rng.choice(WORDS)
    key, amount = f"{number % 12}", rng.choice([1.5, 2, 1e11, None])
    rows = rng.choice(
        [
            {"orders": [{"order_id": key, "amount": amount}], "order_items": [{"order_id": key, "product_id": words}]},
            {"reviews": [{"review_id": f"{key}:{words}", "review_text": words}]},
            {"events": [{"event_id": f"e{number}", "event_type": words}]},
        ]
    )
    return Event(f"e{number}", customer, rows)


def outcome(log: EventLog, event_id: str) -> object:
    """What happens when an event is dropped."""
    try:
        return without_time(log.drop(event_id, WORDS[1]))
    except ChurnRadarError as error:
        return str(error)


def without_time(event: LoggedEvent) -> tuple:
    return event.sequence, event.event_id, event.customer_id, event.rows, event.kind, event.key


def check_same(logs: list[EventLog], ask: Callable[[EventLog], object]) -> None:
    answers = [ask(log) for log in logs]
    assert answers == [answers[0]] * len(logs)


def contents(log: EventLog) -> object:
    """Everything that a log answers, without times."""
    newest = log.newest()
    return (
        [without_time(event) for event in log.since()],
        [without_time(event) for event in log.since(newest - 4)],
        [without_time(event) for event in log.latest()],
        [[without_time(event) for event in log.latest(customer)] for customer in CUSTOMERS],
        [[without_time(event) for event in log.since(3, customer)] for customer in CUSTOMERS],
        [log.newest_dropped(customer) for customer in CUSTOMERS],
        [(one.sequence, one.event_id, one.customer_id, one.reason, one.content_hash) for one in log.all_dropped()],
        log.newest_by_customer(0),
        log.newest_by_customer(newest - 4),
        newest,
        len(log),
    )


def test_a_copy_is_the_same_with_its_positions_and_times(others):
    source, *targets = others
    rng = Random(3)
    for number in range(60):
        source.append_all([[random_event(rng)]])
        if number % 4 == 3:  # its customer has newer events later
            source.drop(next(source.latest()).event_id, "why")
    last = source.newest()
    for target in targets:
        target.restore(source.since(), source.all_dropped())
        assert contents(target) == contents(source)
        assert [*target.since()] == [*source.since()]
        assert target.all_dropped() == source.all_dropped()
        target.append_all([[order("new", "new")]])
        assert target.newest() == last + 1
    assert list(targets[0].latest(received_from=datetime.now(UTC) - timedelta(days=1)))
    assert not list(targets[0].latest(received_from=datetime.now(UTC) + timedelta(days=1)))


def test_a_copy_that_a_service_overtakes_is_not_used(postgres_place, churn_home, monkeypatch):
    monkeypatch.setenv("CHURN_EVENTS", "postgres")
    with closing(SqliteEventLog()) as log:
        log.append_all([[order("a", "1")]])
        restored = postgres_log.PostgresEventLog.restore

        def restore_while_a_service_writes(self, *arguments):
            restored(self, *arguments)
            log.append_all([[order("b", "2")]])

        monkeypatch.setattr(postgres_log.PostgresEventLog, "restore", restore_while_a_service_writes)
        with pytest.raises(ChurnRadarError, match="a service accepted events meanwhile, and nothing was changed"):
            copy()
    assert used() == "sqlite"


def test_many_pages_are_copied_and_read_once_and_in_order(others):
    source, *targets = others
    source.append_all([[order(f"e{i}", f"{i}") for i in range(2500)]])
    for log in targets:
        log.restore(source.since(), [])
    for log in others:
        assert [event.sequence for event in log.since(3)] == list(range(4, 2501))
        assert [event.sequence for event in log.since(3, "c1")] == list(range(4, 2501))
        assert [event.sequence for event in log.latest()] == list(range(2500, 0, -1))


def test_a_position_is_not_given_again_when_its_event_is_forgotten(log):
    log.append_all([[order("a", "1")]])
    log.forget(["c1"])
    assert (log.newest(), len(log)) == (1, 0)
    log.append_all([[order("b", "1")]])
    assert log.newest() == 2


def test_redis_forgets_a_customer_in_a_time_that_grows_with_their_events(redis_place):
    """Redis answers nobody while it forgets: a time that grows with their square stops all services."""
    taken = {}
    with closing(connect("redis")) as log:
        for size in (500, 4000):
            for part in range(0, size, 500):
                log.append_all([[order(f"{size}-{part + i}", f"{size}-{part + i}") for i in range(500)]])
            log.drop(f"{size}-0", "one of many")
            started = time.perf_counter()
            assert log.forget(["c1"]) == size
            taken[size] = time.perf_counter() - started
    assert taken[4000] < 32 * taken[500]  # its square is 64 times as much


def test_readers_see_positions_without_gaps_while_several_write(log):
    """Four writers; a reader that goes on after the last position it saw misses no event."""
    kind, seen = log.kind, []

    def write(writer: int) -> None:
        with closing(connect(kind)) as own:
            for number in range(40):
                assert own.append_all([[order(f"{writer}-{number}", f"{writer}-{number}")]]) == [[True]]

    writers = [Thread(target=write, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen += [event.sequence for event in log.since(seen[-1] if seen else 0)]
    seen += [event.sequence for event in log.since(seen[-1] if seen else 0)]
    assert seen == list(range(1, 161))


def test_a_home_keeps_to_its_log(redis_place, churn_home, monkeypatch):
    """A nightly build without the service's variable would not see its events."""
    monkeypatch.setenv("CHURN_EVENTS", "redis")
    open_log().close()
    monkeypatch.delenv("CHURN_EVENTS")
    with pytest.raises(ChurnRadarError, match=r"CHURN_EVENTS is sqlite, and the events of .* are in redis; expected"):
        open_log()
    with pytest.raises(ChurnRadarError, match="are in redis"), existing_log():
        pass
    monkeypatch.setenv("CHURN_EVENTS", "kafka")
    with pytest.raises(ChurnRadarError, match="CHURN_EVENTS is kafka; expected sqlite, redis, postgres"):
        open_log()


def test_doctor_reads_a_log_on_a_server_and_changes_nothing(redis_place, churn_home, monkeypatch):
    monkeypatch.setenv("CHURN_EVENTS", "redis")
    churn_home.mkdir()
    assert CHECKS["event log"]() == ("ok", "0 events, 0 of them since the last build")
    assert list(churn_home.iterdir()) == []


@pytest.mark.parametrize("log", ["redis", "postgres"], indirect=True)
def test_another_log_than_that_of_the_home_is_refused(log, request, churn_home):
    """A server at another address, or one that lost its data: events would go where no build looks."""
    log.append_all([[order("a", "1")]])
    open_log().close()
    if log.kind == "redis":
        request.getfixturevalue("redis_place").flushall()
        with pytest.raises(EventLogDownError, match="the log was lost, or is another one"):
            log.append_all([[order("b", "2")]])
    else:
        log.execute("drop schema churn_radar_events cascade")
    for opens in (open_log, CHECKS["event log"]):
        with pytest.raises(ChurnRadarError, match=f"the log in {log.kind} is not that of .* remove .*events/log.json"):
            opens()
    (churn_home / "events" / "log.json").unlink()
    with closing(open_log()) as begun:
        assert len(begun) == 0
    open_log().close()


@pytest.mark.parametrize("noted", ["null", "[1]", "{}", '{"kind": "kafka"}', '{"kind": "redis"}', ""])
def test_a_damaged_note_is_named(churn_home, noted):
    (churn_home / "events").mkdir(parents=True)
    (churn_home / "events" / "log.json").write_text(noted)
    with pytest.raises(ChurnRadarError, match=r"log.json: cannot be read"):
        open_log()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_home_there_is_nothing_to_read(churn_home, monkeypatch, kind):
    monkeypatch.setenv("CHURN_EVENTS", kind)
    with existing_log() as log:
        assert log is None
    assert not churn_home.exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
    ],
)
def test_a_redis_that_forgets_is_refused(redis_place, setting, value):
    before = redis_place.config_get(setting)[setting]
    redis_place.config_set(setting, value)
    try:
        with pytest.raises(ChurnRadarError, match=f"has {setting} {value}; expected"):
            connect("redis")
    finally:
        redis_place.config_set(setting, before)
        while redis_place.info("persistence")["aof_rewrite_in_progress"]:  # the server does not stop before its end
            time.sleep(0.01)


@pytest.mark.parametrize(
    "address", ["redis://:secret@127.0.0.1:6379", "[::1]:6379", "127.0.0.1:6379,secret=1", "127.0.0.1:6379,host=secret"]
)
def test_an_address_that_cannot_be_read_is_not_shown(monkeypatch, address):
    monkeypatch.setenv("CHURN_REDIS", address)
    with pytest.raises(ChurnRadarError, match="CHURN_REDIS cannot be read; expected host:port") as raised:
        connect("redis")
    assert "secret" not in str(raised.value)


def test_a_server_that_is_down_is_named_and_found_again(redis_place, redis_server):
    log = connect("redis")
    redis_server.stop()
    with pytest.raises(EventLogDownError, match=rf"Redis at {redis_server.address}: .*expected the log of accepted"):
        log.append_all([[order("a", "1")]])
    redis_server.start()
    assert log.append_all([[order("a", "1")]]) == [[True]]
    log.close()


def test_a_connection_that_broke_is_made_again(postgres_place):
    log = connect("postgres")
    with psycopg.connect(autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    with pytest.raises(EventLogDownError, match=r"PostgreSQL at 127.0.0.1:.*expected the log of accepted events"):
        log.append_all([[order("a", "1")]])
    assert log.append_all([[order("a", "1")]]) == [[True]]
    log.close()


def test_a_machine_that_is_gone_amid_a_write_does_not_keep_others_from_writing(postgres_place, monkeypatch):
    monkeypatch.setattr(postgres_log, "ANSWER_MS", 1000)
    with closing(connect("postgres")) as gone, closing(connect("postgres")) as log:

        def go_amid_a_write() -> None:
            with gone.transaction():
                time.sleep(1.5)
                assert log.append_all([[order("a", "1")]]) == [[True]]
                gone.newest()

        with pytest.raises(EventLogDownError, match="terminating connection"):
            go_amid_a_write()


def as_role(monkeypatch: pytest.MonkeyPatch, name: str, *statements: str) -> None:
    """Connect from now on by a role that is made by these statements."""
    with psycopg.connect(autocommit=True) as connection:
        for statement in (f"drop role if exists {name}", f"create role {name} login", *statements):
            connection.execute(statement)
    monkeypatch.setenv("PGUSER", name)


def test_a_role_that_may_make_no_schema_uses_its_own(postgres_place, monkeypatch):
    as_role(monkeypatch, "app", "create schema churn_radar_events authorization app")
    with closing(connect("postgres")) as log:
        assert log.append_all([[order("a", "1")]]) == [[True]]


def test_writers_wait_for_each_other_whatever_the_isolation_of_their_role(postgres_place, monkeypatch):
    isolated = "alter role careful set default_transaction_isolation = 'serializable'"
    as_role(monkeypatch, "careful", "alter role careful superuser", isolated)
    answers = []
    with closing(connect("postgres")) as one, closing(connect("postgres")) as other:
        waiting = Thread(target=lambda: answers.append(other.append_all([[order("a", "1")]])))
        with one.transaction():
            waiting.start()
            time.sleep(0.3)
            one.execute(one.next_position)
        waiting.join()
    assert answers == [[[True]]]


def test_a_customer_of_whom_the_server_has_only_a_removal_is_erased(postgres_place, churn_home, tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_EVENTS", "postgres")
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path))
    monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path))
    churn_home.mkdir()
    with closing(open_log()) as log:
        log.append_all([[order("a", "1")]])
        log.drop("a", "sent by a test")
        assert erase("c1").removed == {"event log": 1}
        assert log.all_dropped() == []


def test_postgresql_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    with pytest.raises(EventLogDownError, match=r"PostgreSQL at 127.0.0.1:1: "):
        connect("postgres")
