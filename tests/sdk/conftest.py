"""Starts one real server with the local driver, and hands out organizations and sandboxes of it."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from crownest import CrowNest, SandboxHandle

from server import Server

REQUEST_SECONDS = 30
# The suite polls a lot; a limit of requests is another suite's subject.
SETTINGS = {
    "CROWNEST_RATE_LIMIT_PER_MINUTE": "0",
    "CROWNEST_LOG": "warn",
    "CROWNEST_PREVIEW_LISTEN": "127.0.0.1:0",
}
HOST_SECRET = "only-the-host-may-see-this"


@dataclass
class Team:
    """An organization with one key that may do everything, and more keys on request."""

    server: Server
    name: str
    client: CrowNest = field(init=False)
    secret: str = field(init=False)
    organization_id: str = field(init=False)
    project_id: str = field(init=False)
    user_id: str = field(init=False)
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        made = self.key()
        self.secret = made["apiKey"]
        self.key_id = made["apiKeyId"]
        self.organization_id = made["organizationId"]
        self.project_id = made["projectId"]
        self.user_id = made["userId"]
        self.client = self.connect(self.secret)

    def key(self, scopes: str = "all") -> dict[str, str]:
        arguments = ["--organization", self.name, "--project", "main", "--scopes", scopes]
        return self.server.bootstrap(*arguments)

    def connect(self, secret: str) -> CrowNest:
        return CrowNest(api_key=secret, base_url=self.server.url, timeout=REQUEST_SECONDS)

    def http(self) -> httpx.Client:
        """For what the SDK has no call for."""
        headers = {"authorization": f"Bearer {self.secret}"}
        return httpx.Client(base_url=self.server.url, headers=headers, timeout=REQUEST_SECONDS)

    def close(self) -> None:
        """Kills what still lives: a server that stops leaves its sandboxes to its next start."""
        while live := self.client.sandboxes.list():
            for sandbox in live:
                self.client.sandboxes.kill(sandbox["id"])
        self.client.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    os.environ["HOST_SECRET"] = HOST_SECRET
    server = Server(Path(os.environ["TEST_PROGRAMS"]), tmp_path_factory.mktemp("server"), SETTINGS)
    LOGS.append(server)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def new_team(server: Server) -> Iterator[Callable[[], Team]]:
    teams: list[Team] = []
    numbers = itertools.count(1)

    def make() -> Team:
        teams.append(Team(server, f"Team {next(numbers)}"))
        return teams[-1]

    yield make
    for team in teams:
        team.close()


@pytest.fixture(scope="session")
def team(new_team: Callable[[], Team]) -> Team:
    """The team of all tests that need none of their own."""
    return new_team()


@pytest.fixture(scope="session")
def client(team: Team) -> CrowNest:
    return team.client


@pytest.fixture
def sandbox(client: CrowNest) -> Iterator[SandboxHandle]:
    sandbox = client.sandboxes.create(template="python", ttl_ms=600_000)
    yield sandbox
    sandbox.kill()


LOGS: list[Server] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        for server in LOGS:
            terminalreporter.section("the end of the server's log")
            terminalreporter.write_line(server.log_tail())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tells the runner of all suites what was skipped; see scripts/test."""
    if report.skipped and (skips := os.environ.get("TEST_SKIPS_FILE")):
        with Path(skips).open("a") as file:
            file.write(f"sdk {report.nodeid}\t{report.longrepr[2]}\n")
