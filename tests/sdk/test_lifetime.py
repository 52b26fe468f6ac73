"""How long a sandbox lives: set from now, and ended without anybody asking."""

from contract import eventually, instant, refused, seconds_from_now


def test_27_extend_counts_from_now(client):
    sandbox = client.sandboxes.create(template="base", ttl_ms=600_000)
    shorter = sandbox.extend(ttl_ms=120_000)
    assert shorter["ttlMs"] == 120_000
    assert 115 < seconds_from_now(shorter["expiresAt"]) <= 120
    longer = client.sandboxes.extend(sandbox.id, ttl_ms=7_200_000)
    assert longer["ttlMs"] == 7_200_000
    assert 7_195 < seconds_from_now(longer["expiresAt"]) <= 7_200
    assert client.sandboxes.get(sandbox.id)["expiresAt"] == longer["expiresAt"]
    assert longer["createdAt"] == sandbox["createdAt"]
    sandbox.kill()


def test_27_ttl_is_the_same_operation(team, sandbox):
    with team.http() as http:
        answer = http.post(f"/v1/sandboxes/{sandbox.id}/ttl", json={"ttlMs": 300_000})
    assert answer.status_code == 200
    assert answer.json()["sandbox"]["ttlMs"] == 300_000
    assert 295 < seconds_from_now(answer.json()["sandbox"]["expiresAt"]) <= 300


def test_27_limits(sandbox):
    before = sandbox["expiresAt"]
    # The plan's 24 hours hold for a single extension, and for the whole life from its start.
    with refused(400, "sandbox_ttl_exceeded"):
        sandbox.extend(ttl_ms=24 * 3_600_000 + 1)
    with refused(400, "invalid_request"):
        sandbox.extend(ttl_ms=0)
    with refused(400, "invalid_request"):
        sandbox.extend(ttl_ms=-1)
    assert sandbox.extend(ttl_ms=600_000)["expiresAt"] >= before


def test_28_the_ttl_ends_the_sandbox_and_what_runs_in_it(new_team):
    client = new_team().client
    sandbox = client.sandboxes.create(template="base", ttl_ms=3_000)
    command = sandbox.commands.start("echo begun; sleep 60")

    ended = eventually(
        lambda: client.sandboxes.get(sandbox.id), lambda seen: seen["status"] == "destroyed"
    )
    assert ended["destroyedReason"] == "ttl_expired"
    # Two seconds for clean-up, and it never comes early.
    late = (instant(ended["destroyedAt"]) - instant(sandbox["expiresAt"])).total_seconds()
    assert 0 <= late < 2
    assert sandbox.id not in [live["id"] for live in client.sandboxes.list()]

    killed = client.commands.get(command["id"])
    assert killed["status"] == "killed"
    assert killed["killedReason"] == "sandbox_destroyed"
    assert "exitCode" not in killed
    assert killed["stdout"] == "begun\n"
    assert instant(killed["finishedAt"])
    with refused(410, "sandbox_destroyed"):
        sandbox.commands.run("echo late")

    # Metered from ready to expiry, however late the clean-up was.
    used = eventually(
        lambda: client.usage()["computeUnitSeconds"]["used"], lambda seconds: seconds >= 2
    )
    assert used <= 3
