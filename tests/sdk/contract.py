"""What the wire contract says about every answer, as checks that the tests share."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from crownest import CrowNestApiError

TERMINAL = {"exited", "failed", "canceled", "timed_out", "killed"}
SCOPES = {
    *("sandbox:create", "sandbox:read", "sandbox:kill", "sandbox:extend"),
    *("command:run", "command:read", "command:cancel", "code:run", "file:read", "file:write"),
    *("artifact:create", "artifact:read", "artifact:delete"),
    *("preview:create", "preview:read", "preview:revoke"),
    *("workspace_run:create", "workspace_run:read", "workspace_run:cancel"),
    *("backup:create", "backup:read", "backup:restore", "backup:delete"),
    *("usage:read", "api_key:read", "api_key:revoke", "project:create"),
}


def is_id(text: str, prefix: str) -> bool:
    return re.fullmatch(rf"{prefix}_[A-Za-z0-9][A-Za-z0-9-]*", text) is not None


def instant(text: str) -> datetime:
    """Parses an instant, which is in UTC, with milliseconds and a Z."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text), text
    return datetime.fromisoformat(text)


def seconds_from_now(text: str) -> float:
    return (instant(text) - datetime.now(UTC)).total_seconds()


@contextmanager
def refused(status: int, code: str, field: str | None = None) -> Iterator[None]:
    """The block must end in exactly this API error."""
    with pytest.raises(CrowNestApiError) as caught:
        yield
    error = caught.value
    assert (error.status, error.code) == (status, code), str(error)
    assert str(error)
    if field is not None:
        assert error.details["field"] == field


def eventually(
    look: Callable[[], Any], wanted: Callable[[Any], bool], *, seconds: float = 10
) -> Any:
    """Looks again and again until it sees what is wanted, and returns that."""
    deadline = time.monotonic() + seconds
    while not wanted(seen := look()):
        assert time.monotonic() < deadline, f"after {seconds} s still {seen}"
        time.sleep(0.05)
    return seen
