"""Previews: made with the SDK, opened as programs do."""

from urllib.parse import urlsplit

import httpx
import pytest

from contract import eventually, instant, is_id, refused, seconds_from_now

LISTING = "mkdir -p site && echo found >site/a.txt && cd site && exec python3 -m http.server 8000"
# Answers with the names of the headers that it got.
TELLING = """\
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = "\\n".join(sorted(name.lower() for name in self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def visit(preview, path="/", *, method="GET", **headers):
    """Asks the preview's host at the address where it is: few resolvers know names below localhost."""
    url = urlsplit(preview["url"])
    assert url.hostname == f"{preview['slug']}.preview.localhost", preview["url"]
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(
        method,
        f"http://127.0.0.1:{url.port}{path}",
        headers={"host": url.netloc, **fields},
        timeout=20,
        trust_env=False,
    )


def until_served(preview, **headers):
    return eventually(
        lambda: visit(preview, **headers), lambda answer: answer.status_code != 502, seconds=20
    )


def refuses(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]


@pytest.fixture
def key(team):
    return f"Bearer {team.secret}"


def test_64_a_preview_shows_what_a_port_serves_to_whoever_has_a_key(sandbox, key, new_team):
    sandbox.commands.start(LISTING)
    made = sandbox.previews.create(port=8000)
    preview = made["preview"]
    assert "previewToken" not in made
    assert is_id(preview["id"], "prv")
    assert preview["sandboxId"] == sandbox["id"]
    assert (preview["port"], preview["authMode"]) == (8000, "authenticated")
    assert -5 < seconds_from_now(preview["createdAt"]) < 1
    assert instant(preview["expiresAt"]) == instant(sandbox["expiresAt"])
    assert "revokedAt" not in preview

    listing = until_served(preview, authorization=key)
    assert listing.status_code == 200
    assert 'href="a.txt"' in listing.text
    assert visit(preview, "/a.txt", x_api_key=key.removeprefix("Bearer ")).text == "found\n"
    assert visit(preview, "/nope", authorization=key).status_code == 404
    refuses(visit(preview), 401, "unauthorized")
    refuses(visit(preview, authorization="Bearer cn_live_wrong"), 401, "invalid_api_key")
    stranger = f"Bearer {new_team().secret}"
    refuses(visit(preview, authorization=stranger), 404, "not_found")


def test_64_the_app_sees_no_credential(sandbox, key):
    sandbox.files.write("app.py", TELLING)
    sandbox.commands.start("exec python3 app.py")
    made = sandbox.previews.create(port=8000, auth_mode="token")
    seen = until_served(made["preview"], authorization=key, x_own="1").text.split("\n")
    assert "x-own" in seen and "x-forwarded-for" in seen
    assert "authorization" not in seen
    token = made["previewToken"]
    seen = visit(made["preview"], x_crownest_preview_token=token).text.split("\n")
    assert not [name for name in seen if "crownest" in name or "key" in name]


def test_65_a_port_has_one_preview(client, sandbox):
    made = sandbox.previews.create(port=8000, auth_mode="token")
    token = made["previewToken"]
    assert token.startswith("pvt_")
    again = client.previews.create(sandbox["id"], port=8000)
    assert again == {"preview": made["preview"]}
    assert client.previews.get(made["preview"]["id"]) == made["preview"]
    assert sandbox.previews.list() == [made["preview"]]
    assert client.previews.list(sandbox["id"]) == [made["preview"]]


def test_65_a_token_opens_until_the_preview_is_revoked(client, sandbox):
    sandbox.commands.start(LISTING)
    made = sandbox.previews.create(port=8000, auth_mode="token")
    preview, token = made["preview"], made["previewToken"]
    assert until_served(preview, x_crownest_preview_token=token).status_code == 200
    assert visit(preview, authorization=f"Bearer {token}").status_code == 200
    refuses(visit(preview, authorization="Bearer pvt_wrong"), 401, "unauthorized")

    revoked = client.previews.revoke(preview["id"])
    assert -5 < seconds_from_now(revoked["revokedAt"]) < 1
    assert client.previews.revoke(preview["id"]) == revoked
    refuses(visit(preview, authorization=f"Bearer {token}"), 404, "not_found")
    assert sandbox.commands.run("echo still here")["stdout"] == "still here\n"


def test_65_a_port_without_a_listener_is_unavailable(sandbox, key):
    preview = sandbox.previews.create(port=8001)["preview"]
    refuses(visit(preview, authorization=key), 502, "preview_unavailable")


def test_65_a_killed_sandbox_has_no_previews(client, key):
    sandbox = client.sandboxes.create(template="python", ttl_ms=600_000)
    sandbox.commands.start(LISTING)
    preview = sandbox.previews.create(port=8000)["preview"]
    assert until_served(preview, authorization=key).status_code == 200
    sandbox.kill()
    refuses(visit(preview, authorization=key), 502, "preview_unavailable")
    with refused(410, "sandbox_destroyed"):
        sandbox.previews.create(port=8002)


def test_what_makes_no_sense_is_refused(client, sandbox):
    with refused(400, "invalid_request", field="port"):
        sandbox.previews.create(port=0)
    with refused(400, "unsupported_preview_auth_mode", field="authMode"):
        sandbox.previews.create(port=80, auth_mode="public")
    with refused(404, "not_found"):
        client.previews.get("prv_doesnotexist")


def test_a_sandbox_has_three_previews_at_a_time(sandbox):
    for port in (1, 2, 3):
        sandbox.previews.create(port=port)
    with refused(429, "quota_exceeded"):
        sandbox.previews.create(port=4)
