"""Drives the client that openapi-python-client makes, through the main job.

What is asserted here is what the types promise and the server must keep.
"""

import os
from typing import TypeVar

from crownest_api import AuthenticatedClient
from crownest_api.api.commands import run_command, stream_command_logs
from crownest_api.api.files import read_file, write_file
from crownest_api.api.sandboxes import create_sandbox, kill_sandbox, list_sandboxes
from crownest_api.api.usage import get_usage
from crownest_api.models import (
    CommandStatus,
    CreateSandboxBody,
    CreateSandboxBodyMetadata,
    ErrorEnvelope,
    ReadFileResponseEncoding,
    RunCommandBody,
    SandboxDestroyedReason,
    SandboxStatus,
    UsageEventMetric,
    UsageSummaryResponse,
    WriteFileBody,
)
from crownest_api.types import Unset

T = TypeVar("T")


def good(answer: T | ErrorEnvelope | None) -> T:
    """The body of an answer that must be a success."""
    assert answer is not None, "an answer of a status that the document does not have"
    assert not isinstance(answer, ErrorEnvelope), answer
    return answer


def refused(answer: object) -> ErrorEnvelope:
    assert isinstance(answer, ErrorEnvelope), answer
    return answer


def usage(client: AuthenticatedClient) -> UsageSummaryResponse:
    return good(get_usage.sync(client=client))


def live(client: AuthenticatedClient) -> int:
    quota = usage(client).quotas.active_sandboxes
    assert quota.reset_at is None
    return quota.current


def main() -> None:
    client = AuthenticatedClient(
        base_url=os.environ["CROWNEST_URL"],
        token=os.environ["CROWNEST_API_KEY"],
        raise_on_unexpected_status=True,
    )
    assert live(client) == 0

    metadata = CreateSandboxBodyMetadata.from_dict({"by": "python"})
    body = CreateSandboxBody(template="python", ttl_ms=600_000, metadata=metadata)
    made = [
        good(create_sandbox.sync(client=client, body=body, idempotency_key="python")).sandbox
        for _ in range(2)
    ]
    sandbox = made[0]
    assert made[1].id == sandbox.id
    assert sandbox.metadata["by"] == "python"
    assert live(client) == 1
    print(f"create  {sandbox.id}")

    file = WriteFileBody(path="answer.py", content="print(6 * 7)\n")
    good(write_file.sync(sandbox.id, client=client, body=file))
    line = RunCommandBody(command="python3 answer.py | tee answer.txt")
    command = good(run_command.sync(sandbox.id, client=client, body=line)).command
    assert command.status is CommandStatus.EXITED
    assert (command.exit_code, command.stdout) == (0, "42\n")
    assert isinstance(command.killed_reason, Unset)
    print(f"run     {command.command} -> {command.exit_code}")

    events = good(stream_command_logs.sync(command.id, client=client))
    assert "\nevent: terminal\n" in events, events

    content = good(read_file.sync(sandbox.id, client=client, path="answer.txt"))
    assert content.encoding is ReadFileResponseEncoding.UTF8
    assert (content.content, content.size_bytes) == ("42\n", 3)
    print(f"read    {content.path}")

    missing = refused(read_file.sync(sandbox.id, client=client, path="nowhere.txt"))
    assert missing.error.code == "file_not_found"
    no_limit = refused(list_sandboxes.sync(client=client, limit=0))
    assert not isinstance(no_limit.error.details, Unset)
    assert no_limit.error.details["field"] == "limit"

    killed = good(kill_sandbox.sync(sandbox.id, client=client)).sandbox
    assert killed.status is SandboxStatus.DESTROYED
    assert killed.destroyed_reason is SandboxDestroyedReason.USER_KILLED
    print(f"kill    {killed.destroyed_reason}")

    assert live(client) == 0
    after = usage(client)
    assert any(event.metric is UsageEventMetric.COMMAND_INVOCATIONS for event in after.events)
    print(f"usage   {after.credits_.used} credits")


main()
