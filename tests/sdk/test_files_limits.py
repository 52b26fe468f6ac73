"""Files: what stays out of reach, and how much goes through."""

import hashlib

import httpx
import pytest

from contract import refused, seconds_from_now

LIMIT = 262_144


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "/workspace/../etc/passwd",
        "/workspace2/x",
        "..",
        "link/passwd",
        "dir/up/etc/passwd",
    ],
)
def test_60_nothing_outside_the_workspace_is_reached(sandbox, path):
    sandbox.commands.run("ln -s /etc link; mkdir dir; ln -s /workspace/.. dir/up; touch mine.txt")
    for attempt in (
        lambda: sandbox.files.read(path),
        lambda: sandbox.files.stat(path),
        lambda: sandbox.files.list(path),
        lambda: sandbox.files.write(path, "x"),
        lambda: sandbox.files.delete(path),
        lambda: sandbox.files.mkdir(f"{path}/new", parents=True),
        lambda: sandbox.files.move(path, "stolen"),
        lambda: sandbox.files.move("mine.txt", f"{path}/x"),
        lambda: sandbox.files.download_url(path),
    ):
        with refused(400, "path_outside_workspace"):
            attempt()
    assert [entry["name"] for entry in sandbox.files.list()] == ["dir", "link", "mine.txt"]


def test_60_a_link_to_a_file_outside_is_only_a_link(sandbox):
    """It may be moved and deleted, which is about the link; it is never looked through."""
    sandbox.commands.run("ln -s /etc/passwd link")
    for attempt in (
        lambda: sandbox.files.read("link"),
        lambda: sandbox.files.stat("link"),
        lambda: sandbox.files.write("link", "x"),
        lambda: sandbox.files.download_url("link"),
    ):
        with refused(400, "path_outside_workspace"):
            attempt()
    sandbox.files.move("link", "moved")
    with refused(400, "path_outside_workspace"):
        sandbox.files.read("moved")
    sandbox.files.delete("moved")
    assert sandbox.files.list() == []
    assert sandbox.commands.run("test -s /etc/passwd")["exitCode"] == 0


def test_60_a_dangling_link_makes_no_file_outside(sandbox):
    sandbox.commands.run("ln -s /tmp/planted dangling")
    with refused(400, "path_outside_workspace"):
        sandbox.files.write("dangling", "x")
    assert sandbox.commands.run("ls /tmp/planted")["exitCode"] != 0


def test_60_links_inside_the_workspace_are_followed(sandbox):
    sandbox.files.write("real/a.txt", "x", create_parents=True)
    sandbox.commands.run("ln -s real link; ln -s /workspace/real/a.txt direct")
    assert sandbox.files.read("link/a.txt") == "x"
    assert sandbox.files.read("direct") == "x"
    sandbox.files.write("link/b.txt", "y")
    assert sandbox.files.read("real/b.txt") == "y"


def test_60_another_sandbox_is_outside_too(client, sandbox):
    other = client.sandboxes.create(template="base")
    other.files.write("secret.txt", "theirs")
    found = sandbox.commands.run("find / -name secret.txt -not -path '/proc/*' 2>/dev/null")
    assert found["stdout"] == ""
    assert sandbox.files.list() == []
    other.kill()


def test_62_the_limit_is_exact_for_bytes(sandbox):
    content = bytes(n % 251 for n in range(LIMIT))
    assert sandbox.files.write_bytes("full.bin", content)["sizeBytes"] == LIMIT
    assert sandbox.files.read_bytes("full.bin") == content
    with refused(413, "file_too_large"):
        sandbox.files.write_bytes("more.bin", content + b"x")
    sandbox.commands.run("printf x >> full.bin")
    with refused(413, "file_too_large"):
        sandbox.files.read_bytes("full.bin")
    assert [entry["name"] for entry in sandbox.files.list()] == ["full.bin"]


@pytest.mark.parametrize("character", ["a", "é", "\0"])
def test_62_the_limit_counts_bytes_not_characters(sandbox, character):
    """A NUL is one byte of content but six of JSON, so the whole request may be much larger."""
    content = character * (LIMIT // len(character.encode()))
    assert sandbox.files.write("full.txt", content)["sizeBytes"] == LIMIT
    assert sandbox.files.read("full.txt") == content
    with refused(413, "file_too_large"):
        sandbox.files.write("more.txt", content + character)


def test_62_a_big_file_can_be_downloaded(team, sandbox):
    made = sandbox.commands.run("head -c 5000000 /dev/urandom > big.bin; sha256sum < big.bin")
    with refused(413, "file_too_large"):
        sandbox.files.read_bytes("big.bin")
    download = sandbox.files.download_url("big.bin")
    assert download["method"] == "GET"
    assert download["authMode"] == "api_key"
    assert download["url"].startswith(f"{team.server.url}/")
    assert seconds_from_now(download["expiresAt"]) > 30

    answer = httpx.get(download["url"], headers={"authorization": f"Bearer {team.secret}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert len(answer.content) == 5_000_000
    assert hashlib.sha256(answer.content).hexdigest() == made["stdout"].split()[0]

    # Until it expires, the URL by itself is enough for just this file.
    assert httpx.get(download["url"]).content == answer.content
    other = httpx.URL(download["url"]).copy_set_param("path", "/workspace/other.bin")
    sandbox.files.write("other.bin", "not meant for this URL")
    assert httpx.get(other).status_code == 401


def test_62_only_a_file_that_exists_can_be_downloaded(sandbox):
    with refused(404, "file_not_found"):
        sandbox.files.download_url("missing")
    with refused(400, "path_is_directory"):
        sandbox.files.download_url("/workspace")
