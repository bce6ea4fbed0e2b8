"""The desk as a process of its own, and a browser that looks at it."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from debian import debian_program
from playwright.sync_api import Page, sync_playwright
from shop import BIN, PROJECT

#: A browser without anything that calls home, which runs as root as well.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Elements that reach beyond the window, unless something around them scrolls.
OVERFLOWING = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = e => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)
        && e.getBoundingClientRect().right <= width + 1;
    const inside = e => e.parentElement !== null && (scrolls(e.parentElement) || inside(e.parentElement));
    return [...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().right > width + 1 && !inside(e))
        .map(e => `${e.tagName} ${e.textContent.slice(0, 40)}`);
}"""
#: Streamlit has drawn everything.
DONE = "[data-testid=stApp][data-test-script-state=notRunning]"


@dataclass
class Visitor:
    """A page of the browser, and what went wrong on it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._asked)

    def open(self, address: str, shows: str = "h1.title") -> float:
        """Open an address of the desk; return the seconds until everything that a selector names, in turn, is shown."""
        started = time.monotonic()
        self.page.goto(self.url + address)
        for selector in shows.split(" then "):
            self.page.locator(selector).first.wait_for(timeout=60_000)
        return time.monotonic() - started

    def settle(self) -> None:
        """Wait until nothing is drawn any more."""
        self.page.wait_for_timeout(300)
        self.page.locator(DONE).wait_for(timeout=60_000)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of elements."""
        return self.page.locator(selector).all_inner_texts()

    def _asked(self, request: object) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"), "data:", "blob:")):
            self.errors.append(f"asked for {request.url}")


@contextmanager
def desk(home: Path) -> Iterator[str]:
    """Run ``churn-radar desk`` on a home folder; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, env = f"http://127.0.0.1:{port}", {**os.environ, "CHURN_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [BIN / "churn-radar", "desk", "--port", str(port)],
        cwd=PROJECT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.1)
        yield url
    finally:
        process.kill()  # it writes nothing, and takes seconds to say good-bye
        process.wait()


@contextmanager
def browsing(url: str) -> Iterator[Visitor]:
    """Open Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=debian_program("chromium", "chromium"), args=list(ARGUMENTS)
        )
        yield Visitor(browser.new_page(viewport={"width": 1280, "height": 800}), url)
        browser.close()
