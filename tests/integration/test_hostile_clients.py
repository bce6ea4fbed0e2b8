"""The HTTP service as its own process, and clients that send too much, too slowly, too often or what is no request.

The home is empty: events are accepted, and no score follows.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest
import requests
from hostile_events import order
from service import BOTH, KEYS, READER, WRITER, Service, serving
from shop import Shop

from inference.event_log.sqlite_log import SqliteEventLog
from inference.serving.connections import MAX_KEYLESS_OF_ADDRESS

#: Seconds in which headers and bodies must arrive.
SECONDS = 1
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    shop = Shop(tmp_path_factory.mktemp("hostile"))
    with serving(shop, CHURN_API_KEYS=KEYS, CHURN_REQUEST_SECONDS=str(SECONDS)) as running:
        yield running


def connect(service: Service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def post(path: str, body: bytes = b"", key: str | None = None, **headers: object) -> bytes:
    """A POST request with a body of JSON; headers replace these, and None removes one."""
    own = {"content-type": "application/json", "content-length": len(body), "x-api-key": key}
    own |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in own.items() if value is not None]
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: x", *lines, "", ""]).encode() + body


def answer_to(connection: socket.socket, data: bytes) -> str:
    """Send bytes, and return the answer."""
    connection.sendall(data)
    answer = ""
    while received := connection.recv(65_536):
        answer += received.decode()
        head, _, body = answer.partition("\r\n\r\n")
        if body or "content-length: 0" in head:
            break
    return answer


def is_closed(connection: socket.socket, seconds: float = 3 * SECONDS) -> bool:
    """Whether the server closes a connection within seconds."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


LARGE = {"content_length": 900_000}
CHUNKS = {"content_length": None, "transfer_encoding": "chunked"}
REFUSED = {
    "no key": (post("/v1/churn:batch", **LARGE), 401, "X-API-Key is missing or unknown"),
    "wrong key": (post("/v1/events", key="wrong", **LARGE), 401, "X-API-Key is missing or unknown"),
    "no key, no such page": (post("/v2", **LARGE), 401, "X-API-Key is missing or unknown"),
    "no key, chunks": (post("/v1/events", **CHUNKS), 401, "X-API-Key is missing or unknown"),
    "no key, waits for 100": (post("/v1/events", expect="100-continue", **LARGE), 401, "X-API-Key is missing"),
    "health": (post("/healthz", key=READER, **LARGE), 413, "the body is read by nobody; expected none"),
    "reader": (post("/v1/events", key=READER, **LARGE), 403, "may not write"),
    "large": (post("/v1/events", key=WRITER, content_length=MEGABYTE + 1), 413, "more than 1,000,000 bytes; send less"),
    "text": (post("/v1/events", key=WRITER, content_type="text/plain", **LARGE), 415, "expected application/json"),
    "no type": (post("/v1/events", key=WRITER, content_type=None, **LARGE), 415, "expected application/json"),
}


@pytest.mark.parametrize(("headers", "status", "detail"), REFUSED.values(), ids=REFUSED)
def test_a_request_is_refused_by_its_headers_before_its_body_is_sent(service, headers, status, detail):
    with closing(connect(service)) as connection:
        answer = answer_to(connection, headers)
        assert answer.startswith(f"HTTP/1.1 {status} "), answer
        assert "content-type: application/problem+json" in answer
        assert detail in answer
        # what may be endless is not read
        assert ("connection: close" in answer) == (status == 413 or b"chunked" in headers)


def test_a_body_that_was_refused_is_dropped_and_the_connection_lives(service):
    body = b"x" * 900_000
    with closing(connect(service)) as connection:
        for _ in range(2):
            assert answer_to(connection, post("/v1/events", body)).startswith("HTTP/1.1 401 ")
        assert is_closed(connection), "idle"


STALLS = {
    "nothing": (b"", b""),
    "half of the headers": (b"", b"GET /healthz HTTP/1.1\r\nhost: "),
    "half of the headers of a second request": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /heal"),
    "an empty line after a request": (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
    "half of a body": (b"", post("/v1/events", b'{"events": [', WRITER, content_length=100)),
    "half of a chunk": (b"", post("/v1/events", b"ff\r\n{", WRITER, **CHUNKS)),
    "half of a body of a GET": (
        b"",
        post("/v1/customers/c1/churn", b"x", READER, content_length=9).replace(b"POST", b"GET"),
    ),
}


@pytest.mark.parametrize(("before", "sent"), STALLS.values(), ids=STALLS)
def test_a_connection_that_stalls_is_closed(service, before, sent):
    with closing(connect(service)) as connection:
        if before:
            assert answer_to(connection, before).startswith("HTTP/1.1 200 ")
        started = time.monotonic()
        assert answer_to(connection, sent).startswith("HTTP/1.1 408 ")
        assert is_closed(connection)
        assert SECONDS * 0.9 < time.monotonic() - started < 3 * SECONDS


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nx: ", post("/v1/events", b"[", WRITER, content_length=100)])
def test_bytes_one_by_one_gain_no_time(service, sent):
    with closing(connect(service)) as connection:
        connection.sendall(sent)
        connection.settimeout(0.1)
        started, answer = time.monotonic(), b""
        while not answer and time.monotonic() - started < 3 * SECONDS:
            connection.sendall(b"1")
            with suppress(TimeoutError):
                answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_endless_headers_are_refused(service):
    with closing(connect(service)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + b"x-padding: 1\r\n" * 4000)
        answer = answer_to(connection, b"x-padding: 1\r\n" * 4000)
        assert answer.startswith("HTTP/1.1 431 ")
        assert is_closed(connection)


def test_requests_that_do_not_wait_for_answers_are_refused(service):
    with closing(connect(service)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
        assert is_closed(connection, SECONDS / 2)


def test_chunks_beyond_a_megabyte_are_refused(service):
    with closing(connect(service)) as connection:
        connection.sendall(post("/v1/events", key=WRITER, **CHUNKS))
        for _ in range(10):
            connection.sendall(chunk(b" " * 100_000))
        answer = answer_to(connection, chunk(b"{"))
        assert answer.startswith("HTTP/1.1 413 ")
        assert "the body has more than 1,000,000 bytes; send less" in answer
        assert is_closed(connection)


def test_chunks_are_one_body(service):
    with closing(connect(service)) as connection:
        body = b'{"events"', b": [", b"]}"
        answer = answer_to(connection, post("/v1/events", b"".join(map(chunk, body)) + b"0\r\n\r\n", WRITER, **CHUNKS))
        assert "body.events: List should have at least 1 item" in answer


BOMBS = {
    "lists": (b"[" * 500_000 + b"]" * 500_000, "body: the JSON is nested too deeply"),
    "objects": (b'{"a":' * 100_000, "body: the JSON is nested too deeply"),
    "in an event": (b'{"events": [{"type": ' + b"[" * 900_000, "body: the JSON is nested too deeply"),
    "many empty lists": (
        b'{"events": [' + b"[]," * 300_000 + b"[]]}",
        "body.events: List should have at most 1000 items",
    ),
    "many empty objects": (
        b'{"events": [' + b"{}," * 300_000 + b"{}]}",
        "body.events: List should have at most 1000 items",
    ),
    "a list": (b"[" + b"[]," * 300_000 + b"[]]", "body: Input should be a valid dictionary"),
    "a number": (b'{"events": ' + b"1" * 900_000 + b"}", None),
    "no JSON": (b"\xff" * 900_000, None),
}


@pytest.mark.parametrize(("body", "detail"), BOMBS.values(), ids=BOMBS)
def test_json_that_costs_time_is_refused_and_others_are_answered(service, body, detail):
    with closing(connect(service)) as connection:
        started = time.monotonic()
        answer = answer_to(connection, post("/v1/events", body, WRITER))
        assert time.monotonic() - started < 1
    assert answer.startswith("HTTP/1.1 422 " if detail else "HTTP/1.1 4"), answer
    assert (detail or "") in answer


def test_connections_beyond_those_of_one_address_take_the_place_of_the_oldest(service):
    with requests.Session() as shop:
        shop.headers["X-API-Key"] = BOTH
        assert shop.get(f"{service.url}/healthz", timeout=5).status_code == 200
        idle = [connect(service) for _ in range(MAX_KEYLESS_OF_ADDRESS + 20)]
        assert requests.get(f"{service.url}/healthz", timeout=5).status_code == 200
        assert not is_closed(idle[-1], 0.1)
        answer = idle[0].recv(1000).decode()
        assert answer.startswith("HTTP/1.1 503 Service Unavailable\r\n")
        assert "retry-after: 1\r\n" in answer
        assert is_closed(idle[0])
        before = len(shop.adapters["http://"].poolmanager.pools)
        assert shop.get(f"{service.url}/healthz", timeout=5).status_code == 200, "one with a key keeps its connection"
        assert len(shop.adapters["http://"].poolmanager.pools) == before
    for connection in idle:
        connection.close()


def test_a_pool_of_connections_that_show_a_key_is_not_too_many(service):
    pool = [connect(service) for _ in range(2 * MAX_KEYLESS_OF_ADDRESS)]
    for connection in pool:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nhost: x\r\nx-api-key: {READER}\r\n\r\n".encode())
    assert {connection.recv(1000).split(b"\r\n")[0] for connection in pool} == {b"HTTP/1.1 200 OK"}
    for connection in pool:
        connection.close()


def test_too_many_requests_without_a_key_are_refused_and_those_with_one_are_not(service):
    statuses: list[int] = []

    def knock() -> None:
        for _ in range(4):
            answer = requests.post(f"{service.url}/v1/events", json={}, timeout=5)
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert answer.headers["retry-after"] == "1"
                assert answer.json()["detail"] == "more than 50/second; try again later"

    knocking = [threading.Thread(target=knock) for _ in range(30)]
    for thread in knocking:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in knocking):
        started = time.monotonic()
        assert service.post("/v1/events", WRITER, json={}).status_code == 422
        taken.append(time.monotonic() - started)
    assert set(statuses) == {401, 429}
    assert len(statuses) == 120
    assert max(taken) < 0.9


BY_KEY = {
    "order": order("order of c1", order_id="7"),
    "review": {"type": "review", "event_id": "r", "customer_id": "c1", "review_id": "7", "review_text": "good"},
    "ticket": {"type": "ticket", "event_id": "t", "customer_id": "c1", "ticket_id": "7"},
}


@pytest.mark.parametrize("kind", BY_KEY)
def test_what_came_from_another_customer_is_a_conflict(service, kind):
    moment = {"review": "reviewed_at", "ticket": "opened_at", "order": "ordered_at"}[kind]
    first = BY_KEY[kind] | {moment: datetime.now(UTC).isoformat()}
    others = first | {"event_id": f"other {kind}", "customer_id": "c2"}
    own = first | {"event_id": f"again {kind}"}
    assert service.post("/v1/events", WRITER, json={"events": [first]}).json()["accepted"] == 1
    answer = service.post("/v1/events", WRITER, json={"events": [order(f"with {kind}"), others]})
    assert answer.status_code == 409
    assert answer.json()["detail"] == f"{kind}_id 7 belongs to another customer; nothing of this request was kept"
    assert service.post("/v1/events", WRITER, json={"events": [own]}).json()["accepted"] == 1


def test_events_are_acknowledged_at_once_while_no_score_can_follow(service):
    started = time.monotonic()
    for i in range(20):
        receipt = service.post("/v1/events", WRITER, json={"events": [order(f"at once {i}")]}).json()
        assert (receipt["accepted"], receipt["pending"]) == (1, ["c1"])
    assert time.monotonic() - started < 2


def test_a_setting_that_is_no_time_is_refused(service, tmp_path):
    shop = Shop(tmp_path, settings={"CHURN_REQUEST_SECONDS": "soon"})
    done = shop.run("churn-radar", "serve", check=False)
    assert done.returncode == 1
    assert "CHURN_REQUEST_SECONDS is soon; expected a number of seconds above zero, such as 10" in done.stderr


def test_a_service_that_is_told_to_stop_keeps_what_it_acknowledged(tmp_path):
    shop = Shop(tmp_path, settings={"CHURN_RATE_LIMIT": "100000/second"})
    acknowledged: list[str] = []
    with serving(shop) as running:
        stalled = connect(running)
        stalled.sendall(b"GET /heal")

        def write(writer: int) -> None:
            with requests.Session() as session:
                for number in range(10_000):
                    event = order(f"{writer} {number}")
                    try:
                        answer = session.post(f"{running.url}/v1/events", json={"events": [event]}, timeout=5)
                    except requests.ConnectionError:
                        return
                    assert answer.status_code == 200
                    acknowledged.append(event["event_id"])

        writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in writers:
            thread.start()
        while len(acknowledged) < 100 and any(thread.is_alive() for thread in writers):
            time.sleep(0.01)
        assert len(acknowledged) >= 100
        running.process.terminate()
        started = time.monotonic()
        running.process.wait(10)
        assert time.monotonic() - started < 5
        for thread in writers:
            thread.join()
        stalled.close()
        assert not re.search("Traceback|ERROR", running.process.stdout.read())
    log = SqliteEventLog(shop.home / "events" / "log.db")
    assert {event.event_id for event in log.since()} >= set(acknowledged)
    log.close()
