"""The log of a command: in pages, and as a stream, live and afterwards."""

import time

import pytest

from contract import instant, refused

# What Python's str.splitlines breaks on, an emoji, a combining accent, what JSON must escape.
AWKWARD = '\x0b|\x0c|\x1c|\x1d|\x1e|\u0085|\u2028|\u2029|\N{SLIGHTLY SMILING FACE}|e\u0301|\t|\\|"'


def numbered_lines(count, pause):
    return f"for n in $(seq 1 {count}); do echo line $n; sleep {pause}; done"


def text(chunks, stream="stdout"):
    return "".join(chunk["data"] for chunk in chunks if chunk["stream"] == stream)


def logs_of(events):
    return [event for event in events if event["type"] == "log"]


@pytest.fixture
def finished(sandbox):
    return sandbox.commands.run(numbered_lines(30, 0.03))


@pytest.mark.parametrize("limit", [1, 10, 500])
def test_45_pages_have_every_chunk_once(client, finished, limit):
    chunks = []
    while page := client.commands.logs(
        finished["id"], after_seq=chunks[-1]["seq"] if chunks else None, limit=limit
    ):
        assert len(page) <= limit
        chunks += page
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert text(chunks) == finished["stdout"] == "".join(f"line {n}\n" for n in range(1, 31))
    assert {chunk["commandId"] for chunk in chunks} == {finished["id"]}
    assert {chunk["stream"] for chunk in chunks} == {"stdout"}
    moments = [instant(chunk["createdAt"]) for chunk in chunks]
    assert moments == sorted(moments)


def test_45_a_page_says_where_the_next_begins(team, finished):
    path = f"/v1/commands/{finished['id']}/logs"
    with team.http() as http:
        first = http.get(path, params={"limit": 1}).json()
        assert (first["hasMore"], first["nextSeq"]) == (True, 1)
        rest = http.get(path, params={"afterSeq": first["nextSeq"], "limit": 500}).json()
        assert rest["data"][0]["seq"] == 2
        assert rest["hasMore"] is False
        last = rest["data"][-1]["seq"]
        nothing = http.get(path, params={"afterSeq": last}).json()
        assert nothing["data"] == []
        assert (nothing["hasMore"], nothing["nextSeq"]) == (False, last)


def test_45_both_streams_share_one_sequence(client, sandbox):
    command = sandbox.commands.run("echo a; sleep 0.3; echo b >&2; sleep 0.3; echo c")
    chunks = client.commands.logs(command["id"])
    assert [(c["seq"], c["stream"], c["data"]) for c in chunks] == [
        (1, "stdout", "a\n"),
        (2, "stderr", "b\n"),
        (3, "stdout", "c\n"),
    ]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 501}, {"after_seq": -1}])
def test_45_senseless_pages_are_refused(client, finished, query):
    with refused(400, "invalid_request"):
        client.commands.logs(finished["id"], **query)


def test_45_logs_outlive_the_sandbox(client):
    sandbox = client.sandboxes.create(template="base")
    command = sandbox.commands.run("echo kept")
    sandbox.kill()
    assert text(client.commands.logs(command["id"])) == "kept\n"
    assert client.commands.get(command["id"]) == command
    events = list(client.commands.stream_logs(command["id"], reconnect=False))
    assert [event["type"] for event in events] == ["log", "terminal"]


def test_46_a_live_stream_comes_in_time_and_ends_with_terminal(client, sandbox):
    command = sandbox.commands.start("echo a; sleep 2.5; echo b >&2; exit 5")
    arrived = []
    for event in client.commands.stream_logs(command["id"], reconnect=False):
        assert instant(event["createdAt"])
        arrived.append((time.monotonic(), event))
    events = [event for _, event in arrived]

    assert [(e["seq"], e["stream"], e["data"]) for e in logs_of(events)] == [
        (1, "stdout", "a\n"),
        (2, "stderr", "b\n"),
    ]
    first, second = (when for when, event in arrived if event["type"] == "log")
    assert second - first > 2
    silence = [event["type"] for when, event in arrived if first < when < second]
    assert set(silence) == {"heartbeat"}
    assert 2 <= len(silence) <= 6
    assert all("seq" not in event for event in events if event["type"] == "heartbeat")

    assert [event["type"] for event in events].count("terminal") == 1
    ended = events[-1]
    assert ended["type"] == "terminal"
    assert (ended["command"]["status"], ended["command"]["exitCode"]) == ("exited", 5)
    assert (ended["command"]["stdout"], ended["command"]["stderr"]) == ("a\n", "b\n")
    assert ended["command"] == client.commands.get(command["id"])


def test_46_a_late_stream_replays_and_ends_at_once(client, finished):
    started = time.monotonic()
    events = list(client.commands.stream_logs(finished["id"], reconnect=False))
    assert time.monotonic() - started < 2
    assert text(logs_of(events)) == finished["stdout"]
    assert [event["seq"] for event in logs_of(events)] == list(range(1, len(events)))
    assert events[-1]["command"] == finished


def test_46_a_listener_that_leaves_disturbs_nobody(client, sandbox):
    command = sandbox.commands.start(numbered_lines(20, 0.1))
    stream = client.commands.stream_logs(command["id"], reconnect=False)
    next(stream)
    stream.close()
    events = list(client.commands.stream_logs(command["id"], reconnect=False))
    assert text(logs_of(events)) == "".join(f"line {n}\n" for n in range(1, 21))
    assert events[-1]["command"]["exitCode"] == 0


def test_46_a_stream_needs_a_command(client, new_team, finished):
    with refused(404, "not_found"):
        list(client.commands.stream_logs("cmd_doesnotexist"))
    with refused(404, "not_found"):
        list(new_team().client.commands.stream_logs(finished["id"]))


def test_47_a_stream_goes_on_after_what_was_seen(client, finished):
    everything = client.commands.logs(finished["id"], limit=500)
    last = everything[-1]["seq"]
    for seen in (0, 1, last - 1, last):
        events = list(client.commands.stream_logs(finished["id"], after_seq=seen, reconnect=False))
        assert [event["seq"] for event in logs_of(events)] == list(range(seen + 1, last + 1))
        assert text(logs_of(events)) == text(everything[seen:])
        assert events[-1]["type"] == "terminal"


def test_47_a_live_stream_goes_on_too(client, sandbox):
    command = sandbox.commands.start(numbered_lines(20, 0.1))
    before = []
    stream = client.commands.stream_logs(command["id"], reconnect=False)
    while len(before) < 3:
        event = next(stream)
        before += logs_of([event])
    stream.close()
    after = list(
        client.commands.stream_logs(command["id"], after_seq=before[-1]["seq"], reconnect=False)
    )
    chunks = before + logs_of(after)
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert text(chunks) == "".join(f"line {n}\n" for n in range(1, 21))


def test_48_awkward_characters_arrive_intact(client, sandbox):
    sandbox.files.write("awkward.txt", AWKWARD)
    heard = []
    problems = []
    command = sandbox.commands.run(
        "cat awkward.txt; sleep 0.5; cat awkward.txt",
        on_stdout=heard.append,
        on_stream_error=problems.append,
    )
    assert problems == []
    assert "".join(heard) == command["stdout"] == AWKWARD * 2
    assert text(client.commands.logs(command["id"])) == AWKWARD * 2


def test_48_a_character_in_two_writes_is_one_character(client, sandbox):
    command = sandbox.commands.run(r"printf '\360\237'; sleep 0.3; printf '\231\202!'")
    assert command["stdout"] == "\N{SLIGHTLY SMILING FACE}!"
    assert text(client.commands.logs(command["id"])) == command["stdout"]


def test_48_bytes_that_are_no_text_are_replaced(client, sandbox):
    command = sandbox.commands.run(r"printf 'a\377b\000c'; printf '\360\237'")
    assert command["stdout"] == "a\N{REPLACEMENT CHARACTER}b\0c\N{REPLACEMENT CHARACTER}"
    assert text(client.commands.logs(command["id"])) == command["stdout"]
