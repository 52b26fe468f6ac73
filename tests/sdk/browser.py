"""Drives a real browser, Debian's chromium, by the WebDriver protocol."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

START_SECONDS = 30
REQUEST_SECONDS = 50
SWITCHES = [
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    # Whoever is root cannot have chromium's own sandbox; the pages are the test's.
    "--no-sandbox",
    # Nothing but the server under test is asked, and that without a proxy.
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def is_here() -> bool:
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


class Browser:
    """One window, with cookies of its own."""

    def __init__(self, driver: httpx.Client) -> None:
        self._driver = driver
        options = {"binary": shutil.which("chromium"), "args": SWITCHES}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self._call('POST', '/session', wanted)['sessionId']}"

    def open(self, url: str) -> None:
        """Returns once the page is loaded."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def url(self) -> str:
        return self._call("GET", f"{self._session}/url")

    def run(self, script: str, *arguments: object) -> Any:
        """Runs JavaScript in the page, and returns what it returns."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def wait(self, script: str, *arguments: object) -> Any:
        """Runs JavaScript in the page that calls its last argument with a result."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/async", body)

    def text(self) -> str:
        """What can be read on the page."""
        return self.run("return document.body.innerText")

    def status(self) -> int:
        """The HTTP status that the page came with."""
        entry = "performance.getEntriesByType('navigation')[0].responseStatus"
        return self.run(f"return {entry}")

    def cookies(self) -> dict[str, dict[str, Any]]:
        """The cookies that the page's host gets, by name, those that scripts cannot read included."""
        found = self._call("GET", f"{self._session}/cookie")
        return {cookie["name"]: cookie for cookie in found}

    def close(self) -> None:
        self._call("DELETE", self._session)

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        answer = self._driver.request(method, path, json=body)
        value = answer.json()["value"]
        assert answer.status_code == 200, value
        return value


@contextmanager
def driver(log: str) -> Iterator[httpx.Client]:
    """Runs chromedriver on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["chromedriver", f"--port={port}", f"--log-path={log}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        base_url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base_url, timeout=REQUEST_SECONDS, trust_env=False) as client:
            _await(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _await(client: httpx.Client, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "chromedriver ended at once"
        assert time.monotonic() < deadline, "chromedriver does not answer"
        try:
            if client.get("/status").json()["value"]["ready"]:
                return
        except httpx.TransportError:
            time.sleep(0.05)
