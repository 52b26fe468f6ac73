"""Commands that somebody ends: politely, by force, twice, too late."""

import threading
import time

import pytest

from contract import TERMINAL, eventually, instant, refused, seconds_from_now

POLITE = "trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.1; done"
STUBBORN = "trap '' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture
def start(client, sandbox):
    """Starts a command, and returns it once it has set its traps."""

    def start(line):
        command = sandbox.commands.start(line)
        eventually(
            lambda: client.commands.logs(command["id"]),
            lambda logs: any("begun" in chunk["data"] for chunk in logs),
        )
        return command

    return start


def test_44_graceful_lets_the_command_clean_up(client, sandbox, start):
    command = start(POLITE)
    canceled = sandbox.commands.cancel(command["id"], mode="graceful")
    assert canceled["id"] == command["id"]
    assert canceled["status"] == "canceled"
    assert canceled["cancelMode"] == "graceful"
    assert canceled["terminationSignal"] == "SIGTERM"
    assert -5 < seconds_from_now(canceled["canceledAt"]) < 1
    assert canceled["stdout"] == "begun\nbye\n"
    assert "killedReason" not in canceled
    assert client.commands.get(command["id"]) == canceled


def test_44_graceful_is_the_default(client, start):
    canceled = client.commands.cancel(start(POLITE)["id"])
    assert (canceled["status"], canceled["cancelMode"]) == ("canceled", "graceful")


def test_44_graceful_does_not_wait_for_ever(client, start):
    command = start(STUBBORN)
    asked = time.monotonic()
    canceled = client.commands.cancel(command["id"], mode="graceful")
    assert time.monotonic() - asked < 15
    assert (canceled["status"], canceled["cancelMode"]) == ("canceled", "graceful")
    assert canceled["stdout"] == "begun\n"


def test_44_force_asks_nobody(client, start):
    command = start(STUBBORN)
    asked = time.monotonic()
    canceled = client.commands.cancel(command["id"], mode="force")
    assert time.monotonic() - asked < 3
    assert canceled["status"] == "canceled"
    assert canceled["cancelMode"] == "force"
    assert canceled["terminationSignal"] == "SIGKILL"
    assert "exitCode" not in canceled
    assert canceled["stdout"] == "begun\n"
    assert instant(canceled["startedAt"]) <= instant(canceled["finishedAt"])


@pytest.mark.parametrize("mode", ["graceful", "force"])
def test_44_the_stream_ends_with_the_canceled_command(client, start, mode):
    command = start(POLITE)
    events = []
    listener = threading.Thread(
        target=lambda: events.extend(client.commands.stream_logs(command["id"], reconnect=False))
    )
    listener.start()
    canceled = client.commands.cancel(command["id"], mode=mode)
    listener.join(10)
    assert not listener.is_alive()
    assert [event["type"] for event in events].count("terminal") == 1
    assert events[-1]["type"] == "terminal"
    assert events[-1]["command"] == canceled
    assert events[-1]["command"]["status"] == "canceled"


def test_44_a_command_that_ended_stays_as_it_is(client, sandbox):
    command = sandbox.commands.run("exit 3")
    for mode in ("graceful", "force", None):
        assert client.commands.cancel(command["id"], mode=mode) == command


def test_44_a_cancel_takes_the_children_along(client, sandbox, start):
    command = start("sleep 61 & sleep 62 & echo begun; wait")
    client.commands.cancel(command["id"], mode="force")
    after = sandbox.commands.run("cat /proc/[0-9]*/comm")["stdout"].split()
    assert "sleep" not in after


def test_44_only_what_exists_can_be_canceled(client, new_team, start):
    with refused(404, "not_found"):
        client.commands.cancel("cmd_doesnotexist")
    command = start(POLITE)
    with refused(404, "not_found"):
        new_team().client.commands.cancel(command["id"])
    assert client.commands.get(command["id"])["status"] not in TERMINAL
    with refused(400, "invalid_request", field="mode"):
        client.commands.cancel(command["id"], mode="rudely")
