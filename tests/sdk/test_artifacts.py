"""Artifacts: what is copied or collected outlives its sandbox."""

import asyncio
import hashlib

import httpx
import pytest
from crownest import AsyncCrowNest

from contract import instant, is_id, refused, seconds_from_now

BYTES = bytes(range(256)) * 1024 + b"\x00\xff"


def test_63_an_artifact_outlives_its_sandbox(client, team):
    sandbox = client.sandboxes.create(template="python")
    sandbox.commands.run("mkdir out")
    sandbox.files.write_bytes("out/blob.bin", BYTES[:200_000])
    made = sandbox.artifacts.create(path="out/blob.bin")
    assert is_id(made["id"], "art")
    assert made["orgId"] == team.organization_id
    assert made["projectId"] == client.sandboxes.get(sandbox.id)["projectId"]
    assert (made["sandboxId"], made["name"]) == (sandbox.id, "blob.bin")
    assert (made["sizeBytes"], made["sourcePath"]) == (200_000, "/workspace/out/blob.bin")
    assert made["contentType"] == "application/octet-stream"
    assert made["objectKey"]
    kept = instant(made["retentionExpiresAt"]) - instant(made["createdAt"])
    assert kept.days == 30
    assert "deletedAt" not in made
    sandbox.files.write("out/blob.bin", "changed")
    sandbox.kill()

    assert client.artifacts.get(made["id"]) == made
    assert client.artifacts.list(sandbox.id) == [made]
    assert client.artifacts.download(made["id"]) == BYTES[:200_000]
    deleted = client.artifacts.delete(made["id"])
    assert deleted["id"] == made["id"]
    assert -60 < seconds_from_now(deleted["deletedAt"]) < 1
    with refused(404, "not_found"):
        client.artifacts.download(made["id"])
    with refused(404, "not_found"):
        client.artifacts.get(made["id"])
    assert client.artifacts.list(sandbox.id) == []
    with refused(410, "sandbox_destroyed"):
        client.artifacts.create(sandbox.id, path="out/blob.bin")


def test_63_a_large_artifact(client, sandbox):
    line = "head -c 20000000 /dev/urandom > large && sha256sum < large"
    wanted = sandbox.commands.run(line)["stdout"].split()[0]
    made = sandbox.artifacts.create(path="large", name="A large one.tar.gz")
    assert (made["name"], made["sizeBytes"]) == ("A large one.tar.gz", 20_000_000)
    assert hashlib.sha256(client.artifacts.download(made["id"])).hexdigest() == wanted


def test_63_a_link_works_without_a_key(client, sandbox, server):
    sandbox.files.write("report.html", "<h1>report</h1>")
    made = sandbox.artifacts.create(path="report.html")
    link = client.artifacts.download_url(made["id"])
    assert (link["method"], link["authMode"]) == ("GET", "api_key")
    assert link["headers"] == {"x-content-type-options": "nosniff"}
    assert 800 < seconds_from_now(link["expiresAt"]) <= 900
    answer = httpx.get(link["url"])
    assert (answer.status_code, answer.text) == (200, "<h1>report</h1>")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert httpx.get(link["url"].replace("token=", "token=1")).status_code == 401


def test_63_a_retry_makes_one_artifact(client, sandbox):
    sandbox.files.write("a.txt", "a")
    first = sandbox.artifacts.create(path="a.txt", idempotency_key="artifact-once")
    again = sandbox.artifacts.create(path="a.txt", idempotency_key="artifact-once")
    assert again == first
    assert [artifact["id"] for artifact in sandbox.artifacts.list()] == [first["id"]]
    with refused(409, "idempotency_key_reused"):
        sandbox.artifacts.create(path="b.txt", idempotency_key="artifact-once")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("missing", 404, "file_not_found"),
        ("dir", 400, "path_is_directory"),
        ("../../etc/passwd", 400, "path_outside_workspace"),
        ("etc/passwd", 400, "path_outside_workspace"),
    ],
)
def test_63_what_is_no_file_is_no_artifact(sandbox, path, status, code):
    sandbox.commands.run("mkdir dir; ln -s /etc etc")
    with refused(status, code, field="path"):
        sandbox.artifacts.create(path=path)
    assert sandbox.artifacts.list() == []


def test_63_a_name_leads_nowhere(sandbox):
    sandbox.files.write("a.txt", "a")
    for name in ("../a", "/etc/passwd", "..", "a\\b", "a\nb"):
        with refused(400, "invalid_request", field="name"):
            sandbox.artifacts.create(path="a.txt", name=name)


def test_42_what_is_collected_downloads(client, sandbox):
    run = sandbox.commands.run(
        "mkdir -p sub && printf 'one\\0two' > sub/out.bin",
        collect=[{"path": "sub/out.bin", "name": "result.bin"}],
    )
    assert (run["exitCode"], run["collectStatus"]) == (0, "succeeded")
    assert "collectErrors" not in run
    [artifact] = sandbox.artifacts.list()
    assert artifact["name"] == "result.bin"
    assert client.artifacts.download(artifact["id"]) == b"one\0two"
    assert client.commands.get(run["id"])["collectStatus"] == "succeeded"


def test_42_what_is_missing_is_told(sandbox):
    collect = [{"path": "there"}, {"path": "missing"}]
    run = sandbox.commands.run("echo x > there", collect=collect)
    assert run["collectStatus"] == "partial"
    [error] = run["collectErrors"]
    assert (error["code"], error["path"]) == ("file_not_found", "missing")
    assert error["message"]
    run = sandbox.commands.run("true", collect=[{"path": "missing"}])
    assert (run["collectStatus"], len(run["collectErrors"])) == ("failed", 1)


def test_42_a_failure_is_not_collected_from_unless_asked(sandbox):
    collect = [{"path": "log.txt"}]
    line = "echo log > log.txt; exit 3"
    assert sandbox.commands.run(line, collect=collect)["collectStatus"] == "skipped"
    assert sandbox.artifacts.list() == []
    run = sandbox.commands.run(line, collect=collect, collect_on="always")
    assert (run["exitCode"], run["collectStatus"]) == (3, "succeeded")
    assert len(sandbox.artifacts.list()) == 1


def test_42_paths_are_relative_to_the_command(sandbox):
    sandbox.commands.run("mkdir app; echo far > far.txt")
    collect = [{"path": "near.txt"}, {"path": "far.txt"}]
    run = sandbox.commands.run("echo near > near.txt", cwd="app", collect=collect)
    assert run["collectStatus"] == "succeeded"
    paths = {artifact["sourcePath"] for artifact in sandbox.artifacts.list()}
    assert paths == {"/workspace/far.txt", "/workspace/app/near.txt"}


def test_42_callbacks_and_files(sandbox):
    printed: list[str] = []
    run = sandbox.commands.run(
        "echo said; echo kept > kept.txt",
        collect=[{"path": "kept.txt"}],
        on_stdout=lambda event: printed.append(event["data"] if isinstance(event, dict) else event),
    )
    assert run["collectStatus"] == "succeeded"
    assert "".join(printed) == "said\n"


def test_43_nobody_collects_in_the_background(team, sandbox):
    with team.http() as http:
        for path, more in (("commands", {"background": True}), ("commands/start", {})):
            body = {"command": "true", "collect": [{"path": "a"}], **more}
            answer = http.post(f"/v1/sandboxes/{sandbox.id}/{path}", json=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "invalid_request"


def test_63_the_async_client(team, server, sandbox):
    sandbox.files.write("a.txt", "async")

    async def work() -> bytes:
        async with AsyncCrowNest(api_key=team.secret, base_url=server.url) as client:
            made = await client.artifacts.create(sandbox.id, path="a.txt")
            assert await client.artifacts.list(sandbox.id) == [made]
            assert (await client.artifacts.download_url(made["id"]))["method"] == "GET"
            return await client.artifacts.download(made["id"])

    assert asyncio.run(work()) == b"async"
