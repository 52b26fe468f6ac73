"""What an organization has besides sandboxes: projects, the meter, API keys."""

import json
import math
import time
from datetime import UTC, datetime

from contract import SCOPES, eventually, instant, is_id, refused, seconds_from_now


def test_11_a_new_install_has_a_project(new_team):
    team = new_team()
    projects = team.client.projects.list()
    assert team.project_id in [project["id"] for project in projects]
    for project in projects:
        assert is_id(project["id"], "prj")
        assert project["orgId"] == team.organization_id
        assert is_id(project["orgId"], "org")
        assert project["name"]
        assert -60 < seconds_from_now(project["createdAt"]) < 1


def test_12_a_created_project_is_listed_first_and_holds_sandboxes(new_team):
    team = new_team()
    before = team.client.projects.list()
    project = team.client.projects.create(name="Rocket")
    assert project["name"] == "Rocket"
    assert project["orgId"] == team.organization_id
    assert instant(project["createdAt"])
    assert team.client.projects.list() == [project, *before]

    sandbox = team.client.sandboxes.create(project_id=project["id"])
    assert sandbox["projectId"] == project["id"]
    assert sandbox.commands.run("echo $CROWNEST_PROJECT_ID")["stdout"] == project["id"] + "\n"
    sandbox.kill()


def test_12_a_project_needs_a_name(client):
    with refused(400, "invalid_request", field="name"):
        client.projects.create(name="")


def test_12_a_key_without_the_scope_makes_no_project(team):
    before = team.client.projects.list()
    with (
        team.connect(team.key(scopes="sandbox:read")["apiKey"]) as weak,
        refused(403, "forbidden"),
    ):
        weak.projects.create(name="Refused")
    assert team.client.projects.list() == before


def test_12_no_sandbox_in_the_project_of_another_organization(new_team, client):
    with refused(403, "forbidden"):
        client.sandboxes.create(project_id=new_team().project_id)


def used(client):
    return client.usage()["computeUnitSeconds"]["used"]


def test_13_usage_has_all_members(new_team):
    usage = new_team().client.usage()
    start, end = instant(usage["period"]["start"]), instant(usage["period"]["end"])
    today = datetime.now(UTC)
    assert start == datetime(today.year, today.month, 1, tzinfo=UTC)
    assert end == datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    assert usage["period"]["resetAt"] == usage["period"]["end"]
    assert isinstance(usage["pricingVersion"], str) and usage["pricingVersion"]
    assert usage["computeUnitSecondsPerCredit"] == 1000
    assert usage["currencyPerCredit"] == 0.0333333
    assert usage["computeUnitSeconds"] == {"used": 0}
    assert usage["credits"]["used"] == 0
    sandboxes = usage["quotas"]["active_sandboxes"]
    assert sandboxes == {"current": 0, "limit": 25, "remaining": 25, "resetAt": None}
    assert isinstance(usage["events"], list)


def test_13_usage_grows_by_the_seconds_a_sandbox_was_ready(new_team):
    client = new_team().client
    started = time.monotonic()
    sandbox = client.sandboxes.create(template="base")
    quota = client.usage()["quotas"]["active_sandboxes"]
    assert quota == {"current": 1, "limit": 25, "remaining": 24, "resetAt": None}

    assert sandbox.commands.run("sleep 2.5")["exitCode"] == 0
    sandbox.kill()
    # At least the whole seconds of the command, at most all that passed around the sandbox.
    at_most = math.ceil(time.monotonic() - started)
    seconds = eventually(lambda: used(client), lambda seen: seen >= 2)
    assert seconds <= at_most

    # The meter is closed: the next seconds belong to nobody.
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        usage = client.usage()
        assert usage["computeUnitSeconds"]["used"] <= at_most
        assert math.isclose(usage["credits"]["used"], usage["computeUnitSeconds"]["used"] / 1000)
        time.sleep(0.1)
    assert usage["quotas"]["active_sandboxes"]["current"] == 0


def test_14_the_calling_key_is_listed_without_its_secret(team):
    keys = team.client.api_keys.list()
    (key,) = [key for key in keys if key["prefix"] == team.secret[:18]]
    assert key["id"] == team.key_id
    assert is_id(key["id"], "key")
    assert key["orgId"] == team.organization_id
    assert key["name"]
    assert key["last4"] == team.secret[-4:]
    assert set(key["scopes"]) == SCOPES
    assert len(key["scopes"]) == 27
    assert key["createdByUserId"] == team.user_id
    assert is_id(key["createdByUserId"], "usr")
    assert instant(key["createdAt"])
    assert "revokedAt" not in key
    # The part after the prefix is the secret; it is nowhere, not even in pieces.
    assert team.secret[19:] not in json.dumps(keys)
    assert "secret" not in key


def test_14_get_shows_what_list_shows(client, team):
    key = client.api_keys.get(team.key_id)
    assert key["id"] == team.key_id
    assert key["prefix"] == team.secret[:18]


def test_14_keys_of_another_organization_do_not_exist(client, new_team):
    other = new_team()
    assert other.key_id not in [key["id"] for key in client.api_keys.list()]
    with refused(404, "not_found"):
        client.api_keys.get(other.key_id)
    with refused(404, "not_found"):
        client.api_keys.revoke(other.key_id)
    assert other.client.projects.list()


def test_15_a_revoked_key_says_so_and_is_refused_at_once(client, team):
    second = team.key()
    with team.connect(second["apiKey"]) as doomed:
        assert doomed.projects.list()

        revoked = client.api_keys.revoke(second["apiKeyId"])
        assert revoked["id"] == second["apiKeyId"]
        assert -5 < seconds_from_now(revoked["revokedAt"]) < 1
        with refused(401, "invalid_api_key"):
            doomed.projects.list()

    assert client.api_keys.get(second["apiKeyId"])["revokedAt"] == revoked["revokedAt"]
    listed = {key["id"]: key for key in client.api_keys.list()}
    assert listed[second["apiKeyId"]]["revokedAt"] == revoked["revokedAt"]
    # Revoking is repeatable, and the first time counts.
    again = client.api_keys.revoke(second["apiKeyId"])
    assert again["revokedAt"] == revoked["revokedAt"]


def test_15_a_key_without_the_scope_revokes_nothing(client, team):
    weak = team.key(scopes="api_key:read")
    with team.connect(weak["apiKey"]) as reader:
        assert reader.api_keys.get(weak["apiKeyId"])["scopes"] == ["api_key:read"]
        with refused(403, "forbidden"):
            reader.api_keys.revoke(weak["apiKeyId"])
    assert "revokedAt" not in client.api_keys.get(weak["apiKeyId"])
