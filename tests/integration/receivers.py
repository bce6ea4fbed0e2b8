"""A web server and a mail server on loopback that receive notifications, can refuse them and can kill the sender."""

import email
import email.policy
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

#: Secret in every URL, which must never be printed or stored.
TOKEN = "TOKENTOKEN"


@dataclass
class Message:
    """A message that arrived, accepted or refused."""

    key: str | None
    title: str
    text: str

    @property
    def last_line(self) -> str:
        return self.text.strip().splitlines()[-1]


@dataclass
class Receiver:
    """Messages in the order of arrival, and how to treat the next ones."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    #: How many of the next messages are refused.
    refuse: int = 0
    #: Whether the sender is killed when its message has arrived, before it gets the answer.
    kill: bool = False
    #: Process id of the sender.
    sender: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    #: Delay of an answer, in seconds.
    pause: float = 0
    #: Answers wait until it is set.
    answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.answer.set()

    def take(self, message: Message) -> bool:
        self.messages.append(message)
        self.arrived.set()
        if self.kill:
            self.kill = False
            assert self.started.wait(10)
            os.kill(self.sender, signal.SIGKILL)
        time.sleep(self.pause)
        assert self.answer.wait(30)
        self.refuse -= 1
        return self.refuse < 0


@contextmanager
def web_server() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken = receiver.take(Message(self.headers["Idempotency-Key"], content["title"], content["message"]))
            self.send_response(200 if taken else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a killed sender closes the connection
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    receiver.url = f"json://127.0.0.1:{server.server_port}/{TOKEN}"
    yield receiver
    receiver.answer.set()
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def mail_server() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler:
        async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
            mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
            text = mail.get_body(("plain", "html")).get_content()
            taken = receiver.take(Message(mail["Idempotency-Key"], mail["Subject"], text))
            return "250 OK" if taken else "554 refused"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    receiver.url = (
        f"mailto://127.0.0.1:{port}?mode=insecure&format=text&from=radar@shop.example&to=crm@shop.example&name={TOKEN}"
    )
    yield receiver
    receiver.answer.set()
    controller.stop()
