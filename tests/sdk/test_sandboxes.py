"""Sandboxes: made, found, listed, killed."""

import uuid
from datetime import timedelta

import pytest

from contract import eventually, instant, is_id, refused, seconds_from_now


def test_17_create_answers_with_the_whole_record(client, team):
    sandbox = client.sandboxes.create(template="python", ttl_ms=600_000, metadata={"run": "x"})
    assert is_id(sandbox.id, "sbx")
    assert sandbox["orgId"] == team.organization_id
    assert is_id(sandbox["projectId"], "prj")
    assert sandbox["status"] in {"creating", "starting", "ready"}
    assert sandbox["templateSlug"] == "python"
    assert sandbox["templateVersion"]
    assert is_id(sandbox["templateId"], "tpl")
    assert is_id(sandbox["templateVersionId"], "tplv")
    assert sandbox["ttlMs"] == 600_000
    assert sandbox["metadata"] == {"run": "x"}
    assert 595 < seconds_from_now(sandbox["expiresAt"]) <= 600
    lifetime = instant(sandbox["expiresAt"]) - instant(sandbox["createdAt"])
    assert lifetime == timedelta(milliseconds=600_000)
    assert "destroyedAt" not in sandbox
    assert "destroyedReason" not in sandbox

    got = eventually(
        lambda: client.sandboxes.get(sandbox.id), lambda seen: seen["status"] == "ready"
    )
    assert {**got, "status": "-"} == {**sandbox, "status": "-"}
    sandbox.kill()


def test_17_everything_has_a_default(client):
    sandbox = client.sandboxes.create()
    assert sandbox["templateSlug"] == "python-node"
    assert sandbox["ttlMs"] == 3_600_000
    assert sandbox["metadata"] == {}
    sandbox.kill()


def test_17_a_template_version_can_be_pinned(client, sandbox):
    version = sandbox["templateVersionId"]
    pinned = client.sandboxes.create(template_version_id=version)
    assert pinned["templateSlug"] == "python"
    assert pinned["templateVersionId"] == version
    pinned.kill()
    with refused(400, "invalid_request"):
        client.sandboxes.create(template="node", template_version_id=version)
    with refused(404, "not_found"):
        client.sandboxes.create(template_version_id="tplv_" + "0" * 32)


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"template": "ruby"}, 404, "not_found"),
        ({"ttl_ms": 0}, 400, "invalid_request"),
        ({"ttl_ms": 3_600_001}, 400, "sandbox_ttl_exceeded"),
        ({"restore_from": "bkp_1"}, 403, "feature_not_enabled"),
        ({"metadata": {"a b": "x"}}, 400, "invalid_metadata_key"),
        ({"metadata": {"k" * 65: "x"}}, 400, "invalid_metadata_key"),
        ({"metadata": {"k": "x" * 513}}, 400, "invalid_metadata_value"),
        ({"metadata": {f"k{n}": "x" for n in range(17)}}, 400, "metadata_too_many_keys"),
        ({"metadata": {f"k{n}": "x" * 512 for n in range(9)}}, 400, "metadata_too_large"),
    ],
)
def test_19_20_21_a_bad_wish_is_refused_and_leaves_nothing(client, wish, status, code):
    before = client.sandboxes.list()
    with refused(status, code):
        client.sandboxes.create(**wish)
    assert client.sandboxes.list() == before


@pytest.mark.parametrize(
    ("template", "probe", "output"),
    [
        ("base", "echo ready", "ready\n"),
        ("python", "python -c 'print(6 * 7)'", "42\n"),
        ("python", "python3 -c 'print(6 * 7)'", "42\n"),
        ("node", "node -p '6 * 7'", "42\n"),
        ("python-node", "node -p \"$(python3 -c 'print(6)') * 7\"", "42\n"),
    ],
)
def test_18_a_command_may_follow_create_at_once(client, template, probe, output):
    sandbox = client.sandboxes.create(template=template)
    command = sandbox.commands.run(probe)
    assert (command["status"], command["exitCode"]) == ("exited", 0)
    assert command["stdout"] == output
    sandbox.kill()


def test_18_a_file_may_follow_create_at_once(client):
    sandbox = client.sandboxes.create(template="base")
    assert sandbox.files.list() == []
    sandbox.kill()


def test_18_the_status_follows_the_commands(client, sandbox):
    """Contract 9.1: `running` while a command is active, `idle` once one has been."""
    eventually(lambda: client.sandboxes.get(sandbox.id)["status"], lambda seen: seen == "ready")
    command = sandbox.commands.start("sleep 60")
    assert client.sandboxes.get(sandbox.id)["status"] == "running"
    sandbox.commands.cancel(command["id"], mode="force")
    assert client.sandboxes.get(sandbox.id)["status"] == "idle"


def test_22_list_filters_by_metadata(client):
    run = uuid.uuid4().hex
    first = client.sandboxes.create(metadata={"run": run, "agent.id": "codex/1"})
    second = client.sandboxes.create(metadata={"run": run, "agent.id": "codex/2"})

    def ids(**metadata):
        return [sandbox["id"] for sandbox in client.sandboxes.list(metadata=metadata)]

    assert ids(**{"agent.id": "codex/1", "run": run}) == [first.id]
    assert first.id in ids(**{"agent.id": "codex/1"})
    assert second.id not in ids(**{"agent.id": "codex/1"})
    # All must match, the newest comes first, and no filter is a prefix.
    assert ids(run=run) == [second.id, first.id]
    assert ids(run=run, other="x") == []
    assert ids(run=run[:-1]) == []
    assert [s["id"] for s in client.sandboxes.list()][:2] == [second.id, first.id]
    first.kill()
    second.kill()


def test_22_a_value_with_every_awkward_character_is_found(client):
    value = f"a+b c&d=e%2F#é{uuid.uuid4().hex}"
    sandbox = client.sandboxes.create(metadata={"note": value})
    (found,) = client.sandboxes.list(metadata={"note": value})
    assert found["id"] == sandbox.id
    assert found["metadata"] == {"note": value}
    sandbox.kill()


def test_25_kill_is_final_and_repeatable(client):
    sandbox = client.sandboxes.create(template="base")
    killed = client.sandboxes.kill(sandbox.id)
    assert killed["id"] == sandbox.id
    assert killed["status"] == "destroyed"
    assert killed["destroyedReason"] == "user_killed"
    assert -5 < seconds_from_now(killed["destroyedAt"]) < 1
    assert client.sandboxes.get(sandbox.id).to_dict() == killed
    assert client.sandboxes.kill(sandbox.id) == killed
    assert sandbox.kill().to_dict() == killed
    assert sandbox.id not in [live["id"] for live in client.sandboxes.list()]


def test_25_what_another_organization_owns_does_not_exist(new_team, sandbox):
    stranger = new_team().client
    with refused(404, "not_found"):
        stranger.sandboxes.get(sandbox.id)
    with refused(404, "not_found"):
        stranger.sandboxes.kill(sandbox.id)
    with refused(404, "not_found"):
        stranger.commands.run(sandbox.id, "echo stolen")
    with refused(404, "not_found"):
        stranger.files.list(sandbox.id)
    assert stranger.sandboxes.list() == []
    assert sandbox.commands.run("echo mine")["stdout"] == "mine\n"


def test_29_nothing_works_in_a_destroyed_sandbox(client):
    sandbox = client.sandboxes.create(template="base")
    sandbox.kill()
    for attempt in (
        lambda: sandbox.commands.run("echo late"),
        lambda: sandbox.commands.start("echo late"),
        lambda: sandbox.files.write("late.txt", "late"),
        lambda: sandbox.files.read("late.txt"),
        lambda: sandbox.files.list(),
        lambda: sandbox.extend(ttl_ms=60_000),
    ):
        with refused(410, "sandbox_destroyed"):
            attempt()
