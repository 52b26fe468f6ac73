"""The same request twice: done once, answered the same."""

import threading
import uuid

import pytest

from contract import eventually, refused


@pytest.fixture
def key():
    return uuid.uuid4().hex


def test_31_the_same_create_is_one_sandbox(client, key):
    wish = {"template": "base", "ttl_ms": 600_000, "metadata": {"run": key}}
    first = client.sandboxes.create(**wish, idempotency_key=key)
    second = client.sandboxes.create(**wish, idempotency_key=key)
    assert second.to_dict() == first.to_dict()
    assert [s["id"] for s in client.sandboxes.list(metadata={"run": key})] == [first.id]
    # The answer is the stored one, even when the sandbox is gone.
    first.kill()
    third = client.sandboxes.create(**wish, idempotency_key=key)
    assert third.to_dict() == first.to_dict()
    assert client.sandboxes.list(metadata={"run": key}) == []


def test_32_the_same_key_with_another_body_is_refused(client, key):
    first = client.sandboxes.create(metadata={"run": key}, idempotency_key=key)
    with refused(409, "idempotency_key_reused"):
        client.sandboxes.create(metadata={"run": "other"}, idempotency_key=key)
    with refused(409, "idempotency_key_reused"):
        client.sandboxes.create(metadata={"run": key}, template="base", idempotency_key=key)
    assert [s["id"] for s in client.sandboxes.list(metadata={"run": key})] == [first.id]
    first.kill()


def test_31_a_refused_request_may_be_corrected(client, key):
    """Contract 5: an answer from before anything was done is not stored."""
    with refused(404, "not_found"):
        client.sandboxes.create(template="ruby", idempotency_key=key)
    sandbox = client.sandboxes.create(template="base", idempotency_key=key)
    assert sandbox["templateSlug"] == "base"
    sandbox.kill()


def test_31_the_same_extend_happens_once(client, sandbox, key):
    first = sandbox.extend(ttl_ms=60_000, idempotency_key=key)
    assert sandbox.extend(ttl_ms=60_000, idempotency_key=key).to_dict() == first.to_dict()
    with refused(409, "idempotency_key_reused"):
        sandbox.extend(ttl_ms=61_000, idempotency_key=key)
    assert client.sandboxes.get(sandbox.id)["expiresAt"] == first["expiresAt"]


def test_31_32_the_same_run_happens_once(sandbox, key):
    line = "echo run >> count; cat count"
    first = sandbox.commands.run(line, idempotency_key=key)
    assert first["stdout"] == "run\n"
    assert sandbox.commands.run(line, idempotency_key=key) == first
    with refused(409, "idempotency_key_reused"):
        sandbox.commands.run("echo other", idempotency_key=key)
    assert sandbox.files.read("count") == "run\n"
    # Another path is another operation, and so is no key.
    sandbox.commands.run(line)
    started = sandbox.commands.start(line, idempotency_key=key)
    eventually(lambda: sandbox.files.read("count"), lambda text: text == "run\n" * 3)
    assert sandbox.commands.start(line, idempotency_key=key) == started
    assert sandbox.files.read("count") == "run\n" * 3


def test_33_a_second_request_does_not_wait_for_the_first(sandbox, key):
    line = "echo run >> count; while [ ! -e stop ]; do sleep 0.1; done; cat count"
    answers = []
    runner = threading.Thread(
        target=lambda: answers.append(sandbox.commands.run(line, idempotency_key=key))
    )
    runner.start()
    eventually(sandbox.files.list, lambda files: [f["name"] for f in files] == ["count"])
    with refused(409, "idempotency_request_in_progress"):
        sandbox.commands.run(line, idempotency_key=key)
    sandbox.files.write("stop", "")
    runner.join(10)
    (first,) = answers
    assert first["stdout"] == "run\n"
    assert sandbox.commands.run(line, idempotency_key=key) == first
    assert sandbox.files.read("count") == "run\n"


def test_34_another_credential_is_another_operation(team, client, key):
    with team.connect(team.key()["apiKey"]) as colleague:
        mine = client.sandboxes.create(template="base", idempotency_key=key)
        theirs = colleague.sandboxes.create(template="base", idempotency_key=key)
        assert mine.id != theirs.id
        mine.kill()
        theirs.kill()


@pytest.mark.parametrize("bad", ["", "k" * 256])
def test_32_a_key_has_a_length(client, bad):
    with refused(400, "invalid_request"):
        client.sandboxes.create(idempotency_key=bad)
