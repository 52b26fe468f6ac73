"""Runs the crownest server as a child process, for the quickstart and the suites in Python.

Knows how to start, await, bootstrap and stop a server, and nothing about its API beyond /readyz.
Standard library only.
"""

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05


class ServerFailed(Exception):
    """The server did not do what it was started for; the message says what, the log says why."""


class Server:
    """One `crownest serve` on a loopback port, with its data in a folder of its own."""

    def __init__(self, programs: Path, folder: Path, settings: dict[str, str]) -> None:
        folder = folder.resolve()
        self.program = programs / "crownest"
        self.log = folder / "server.log"
        self.address = ""
        self._listen_file = folder / "listen"
        self._process: subprocess.Popen[bytes] | None = None
        # Settings of the surrounding shell must not leak into a run that has its own.
        surrounding = {k: v for k, v in os.environ.items() if not k.startswith("CROWNEST_")}
        self._environment = {
            **surrounding,
            "CROWNEST_LISTEN": "127.0.0.1:0",
            "CROWNEST_DATABASE_URL": f"sqlite://{quote(str(folder / 'crownest.db'))}",
            "CROWNEST_STATE_DIR": str(folder / "state"),
            "CROWNEST_DRIVER": "local",
            "CROWNEST_GUEST_AGENT": str(programs / "crownest-guest"),
            **settings,
            "CROWNEST_LISTEN_FILE": str(self._listen_file),
        }
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> None:
        """Returns once the server says that it is ready."""
        self._listen_file.unlink(missing_ok=True)
        with self.log.open("wb") as log:
            # A session of its own, so that Ctrl-C reaches the script alone and it can clean up.
            self._process = subprocess.Popen(
                [self.program, "serve"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await(self._has_address, "its address")
        self._await(self._is_ready, "an answer of 200 from /readyz")

    def bootstrap(self, *arguments: str) -> dict[str, str]:
        """Makes an organization, a project and a key, or another key of the same organization."""
        return json.loads(self.run("bootstrap", *arguments, "--json"))

    def run(self, *arguments: str) -> str:
        """Runs another command of the program on the server's data, and returns what it prints."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            command = f"crownest {' '.join(arguments)}"
            raise ServerFailed(f"`{command}` ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def log_tail(self, lines: int = 40) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait(self) -> int:
        """Returns the exit code when the server ends by itself."""
        return self._process.wait()

    def stop(self) -> int | None:
        """Asks the server to end; makes it end if it does not. Fine if it never started."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerFailed(
                f"the server did not end within {STOP_SECONDS} s of SIGTERM"
            ) from None

    def _await(self, happened: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not happened():
            if self._process.poll() is not None:
                raise ServerFailed(
                    f"the server ended with {self._process.returncode} before {what}"
                )
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server gave no sign of {what} within {START_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def _has_address(self) -> bool:
        if self._listen_file.exists():
            self.address = self._listen_file.read_text().strip()
        return ":" in self.address

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
