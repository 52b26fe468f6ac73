"""Commands that run to their end: results, surroundings, limits, callbacks."""

import re
import threading
import time

import pytest

from conftest import HOST_SECRET
from contract import TERMINAL, eventually, instant, is_id, refused


def processes(sandbox):
    """The names of all processes inside, read without any tool that a template might lack."""
    listing = sandbox.commands.run('for p in /proc/[0-9]*/comm; do cat "$p"; done 2>/dev/null')
    return listing["stdout"].split()


def test_37_run_answers_with_the_whole_record(client, sandbox):
    line = "echo out; echo err >&2; exit 3"
    command = sandbox.commands.run(line)
    assert is_id(command["id"], "cmd")
    assert command["sandboxId"] == sandbox.id
    assert command["command"] == line
    assert (command["status"], command["exitCode"]) == ("exited", 3)
    assert (command["stdout"], command["stderr"]) == ("out\n", "err\n")
    assert command["cwd"] == "/workspace"
    assert command["env"] == {}
    assert isinstance(command["durationMs"], int) and command["durationMs"] >= 0
    assert instant(command["startedAt"]) <= instant(command["finishedAt"])
    for absent in ("killedReason", "canceledAt", "cancelMode", "terminationSignal"):
        assert absent not in command
    assert not command.get("stdoutTruncated")
    assert client.commands.get(command["id"]) == command
    assert client.commands.run(sandbox.id, "exit 0")["exitCode"] == 0


def test_37_no_command_ends_before_it_started(sandbox):
    """Short ones in a row: instants read in two places would sooner or later be swapped."""
    for _ in range(20):
        command = sandbox.commands.run("true")
        created, started, finished = (
            instant(command[name]) for name in ("createdAt", "startedAt", "finishedAt")
        )
        assert created <= started <= finished
        taken = (finished - started).total_seconds() * 1_000
        # The instants are cut to whole milliseconds, the duration may be more exact than that.
        assert abs(command["durationMs"] - taken) <= 1


def test_37_a_command_is_a_shell_line(sandbox):
    heredoc = "cat <<'PY' | tr a-z A-Z\nit's $HOME\nPY\n"
    assert sandbox.commands.run(heredoc)["stdout"] == "IT'S $HOME\n"
    assert sandbox.commands.run("no-such-program")["exitCode"] == 127
    with refused(400, "invalid_request", field="command"):
        sandbox.commands.run("")


def test_37_commands_share_files_but_not_their_shell(sandbox):
    sandbox.commands.run("cd /tmp; export X=1; echo kept > /workspace/kept")
    after = sandbox.commands.run('pwd; echo "X=$X"; cat kept')
    assert after["stdout"] == "/workspace\nX=\nkept\n"


def test_38_env_and_cwd_reach_the_process(sandbox):
    sandbox.files.mkdir("sub")
    for cwd in ("/workspace/sub", "sub"):
        command = sandbox.commands.run('echo "$A $PWD"', env={"A": "1"}, cwd=cwd)
        assert command["stdout"] == "1 /workspace/sub\n"
        assert command["cwd"] == "/workspace/sub"
        # Values may be secrets, so they are not given back.
        assert command["env"] == {}


def test_38_the_surroundings_are_announced(sandbox):
    command = sandbox.commands.run("env")
    lines = command["stdout"].splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    announced = {k: v for k, v in environment.items() if k.startswith("CROWNEST")}
    assert announced == {
        "CROWNEST": "1",
        "CROWNEST_SANDBOX_ID": sandbox.id,
        "CROWNEST_PROJECT_ID": sandbox["projectId"],
        "CROWNEST_ORG_ID": sandbox["orgId"],
        "CROWNEST_TEMPLATE_ID": sandbox["templateId"],
        "CROWNEST_TEMPLATE_VERSION_ID": sandbox["templateVersionId"],
        "CROWNEST_WORKSPACE": "/workspace",
        # Not in the contract; the guest agent finds a command's stray processes by it.
        "CROWNEST_COMMAND_ID": command["id"],
    }
    assert HOST_SECRET not in environment.values()


def test_38_no_process_of_the_host_is_in_sight(sandbox):
    assert "crownest" not in processes(sandbox)
    environments = sandbox.commands.run("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert HOST_SECRET not in environments["stdout"]


@pytest.mark.parametrize("key", ["CROWNEST_X", "CROWNEST", "CROWNEST_SANDBOX_ID"])
def test_38_reserved_names_are_refused(sandbox, key):
    with refused(400, "reserved_env_key"):
        sandbox.commands.run("true", env={key: "x"})


def test_38_cwd_stays_inside_and_must_exist(sandbox):
    with refused(400, "path_outside_workspace"):
        sandbox.commands.run("true", cwd="/etc")
    with refused(400, "path_outside_workspace"):
        sandbox.commands.run("true", cwd="../etc")
    with refused(404, "file_not_found"):
        sandbox.commands.run("true", cwd="missing")


def test_39_a_timeout_ends_the_whole_process_group(sandbox):
    started = time.monotonic()
    command = sandbox.commands.run("echo before; sleep 30 & sleep 30", timeout_ms=1_000)
    assert time.monotonic() - started < 5
    assert command["status"] == "timed_out"
    assert command["stdout"] == "before\n"
    assert command["terminationSignal"] in {"SIGTERM", "SIGKILL"}
    assert "exitCode" not in command
    eventually(lambda: processes(sandbox), lambda names: "sleep" not in names, seconds=2)


def test_39_a_timeout_ends_what_ignores_the_polite_signal(sandbox):
    started = time.monotonic()
    command = sandbox.commands.run("trap '' TERM; while :; do sleep 1; done", timeout_ms=500)
    assert time.monotonic() - started < 10
    assert command["status"] == "timed_out"
    eventually(lambda: processes(sandbox), lambda names: "sleep" not in names, seconds=2)


@pytest.mark.parametrize("timeout_ms", [0, -1, 600_001])
def test_39_timeouts_have_limits(sandbox, timeout_ms):
    with refused(400, "invalid_request", field="timeoutMs"):
        sandbox.commands.run("true", timeout_ms=timeout_ms)


def test_40_start_returns_while_the_command_runs(client, sandbox):
    started = time.monotonic()
    command = sandbox.commands.start("sleep 2; echo done")
    assert time.monotonic() - started < 1.5
    assert command["status"] in {"queued", "starting", "running"}
    assert "exitCode" not in command
    ended = eventually(
        lambda: client.commands.get(command["id"]), lambda seen: seen["status"] in TERMINAL
    )
    assert (ended["status"], ended["exitCode"], ended["stdout"]) == ("exited", 0, "done\n")
    assert ended["durationMs"] >= 2_000


def test_40_commands_run_side_by_side(client, sandbox):
    waiting = sandbox.commands.start("while [ ! -e stop ]; do sleep 0.1; done; echo stopped")
    assert sandbox.commands.run("touch stop; echo asked")["stdout"] == "asked\n"
    ended = eventually(
        lambda: client.commands.get(waiting["id"]), lambda seen: seen["status"] in TERMINAL
    )
    assert (ended["exitCode"], ended["stdout"]) == (0, "stopped\n")


def test_41_callbacks_hear_the_output_while_it_comes(sandbox):
    heard = []
    problems = []
    command = sandbox.commands.run(
        "echo one; sleep 1; echo two >&2; sleep 1; echo three",
        on_stdout=lambda text: heard.append(("stdout", text, time.monotonic())),
        on_stderr=lambda text: heard.append(("stderr", text, time.monotonic())),
        on_stream_error=problems.append,
    )
    ended = time.monotonic()
    assert problems == []
    assert [chunk[:2] for chunk in heard] == [
        ("stdout", "one\n"),
        ("stderr", "two\n"),
        ("stdout", "three\n"),
    ]
    # The first was two seconds old when the command ended, the second one.
    assert ended - heard[0][2] > 1.5
    assert ended - heard[1][2] > 0.7
    assert (command["status"], command["exitCode"]) == ("exited", 0)
    assert (command["stdout"], command["stderr"]) == ("one\nthree\n", "two\n")
    assert command["durationMs"] >= 2_000


def test_41_a_started_command_is_heard_in_the_background(sandbox):
    heard = []
    done = threading.Event()

    def listen(text):
        heard.append(text)
        if "three" in "".join(heard):
            done.set()

    command = sandbox.commands.start("echo one; sleep 0.5; echo three", on_stdout=listen)
    assert command["status"] in {"queued", "starting", "running"}
    assert done.wait(10)
    assert "".join(heard) == "one\nthree\n"


def test_41_much_output_arrives_whole(sandbox):
    heard = []
    command = sandbox.commands.run("seq 1 100000", on_stdout=heard.append)
    expected = "".join(f"{n}\n" for n in range(1, 100_001))
    assert "".join(heard) == expected
    assert command["stdout"] == expected
    assert not command.get("stdoutTruncated")


def test_37_output_above_the_limit_is_cut_and_says_so(sandbox):
    """Contract 10.6: the first MiB of each stream is kept in the record."""
    command = sandbox.commands.run("head -c 1100000 /dev/zero | tr '\\0' a; echo short >&2")
    assert command["exitCode"] == 0
    assert command["stdoutTruncated"] is True
    assert re.fullmatch("a{1048576}", command["stdout"])
    assert command["stderr"] == "short\n"
    assert not command.get("stderrTruncated")


def test_49_a_kill_ends_a_blocked_run(client):
    sandbox = client.sandboxes.create(template="base")
    answers = []
    runner = threading.Thread(
        target=lambda: answers.append(sandbox.commands.run("touch begun; sleep 30"))
    )
    runner.start()
    eventually(sandbox.files.list, lambda files: [f["name"] for f in files] == ["begun"])
    client.sandboxes.kill(sandbox.id)
    runner.join(10)
    (command,) = answers
    assert command["status"] == "killed"
    assert command["killedReason"] == "sandbox_destroyed"
    assert "exitCode" not in command
