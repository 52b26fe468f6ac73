"""Previews in a real browser: the page, the WebSocket, and the way in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import browser
from contract import eventually

pytestmark = pytest.mark.skipif(
    not browser.is_here(), reason="chromium and chromium-driver are not installed"
)

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with browser.driver(str(tmp_path_factory.mktemp("browser") / "chromedriver.log")) as client:
        yield client


@pytest.fixture
def window(driver) -> Iterator[browser.Browser]:
    window = browser.Browser(driver)
    yield window
    window.close()


def shown(window, url, text):
    """Opens a URL until the page has a text; the app may take a moment to listen."""

    def look():
        window.open(url)
        return window.text()

    return eventually(look, lambda seen: text in seen, seconds=30)


def test_the_token_opens_a_listing_and_leaves_the_url(sandbox, window):
    sandbox.files.write("site/a.txt", "found in a sandbox", create_parents=True)
    sandbox.commands.start("cd site && exec python3 -m http.server 8000")
    made = sandbox.previews.create(port=8000, auth_mode="token")
    url, token = made["preview"]["url"], made["previewToken"]

    window.open(f"{url}/a.txt")
    assert window.status() == 401
    told = window.text()
    assert "crownest_preview_token=pvt_" in told and "found" not in told
    field = "return document.querySelector('input[type=password]').name"
    assert window.run(field) == "crownest_preview_token"

    shown(window, f"{url}/?crownest_preview_token={token}", "a.txt")
    assert window.url() == f"{url}/"
    assert token not in window.run("return document.documentElement.outerHTML")
    assert window.run("return document.cookie") == ""
    cookie = window.cookies()["crownest-preview"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    assert cookie["domain"] == url.removeprefix("http://").split(":")[0]
    assert token not in cookie["value"]

    window.run("document.querySelector('a').click()")
    eventually(window.url, lambda seen: seen == f"{url}/a.txt")
    assert window.text() == "found in a sandbox"


def test_the_form_of_the_401_page_opens_it(sandbox, window):
    sandbox.files.write("index.html", "<p>welcome in</p>")
    sandbox.commands.start("exec python3 -m http.server 8000")
    made = sandbox.previews.create(port=8000, auth_mode="token")
    url = made["preview"]["url"]
    window.open(f"{url}/")
    fill = "document.querySelector('input').value = arguments[0]; document.forms[0].submit()"
    window.run(fill, made["previewToken"])
    eventually(window.text, lambda seen: "welcome in" in seen or "does not answer" in seen)
    shown(window, f"{url}/", "welcome in")


def test_a_websocket_echoes_until_the_preview_is_revoked(client, sandbox, window):
    sandbox.files.write("echo.py", (HERE / "echo_app.py").read_text())
    sandbox.commands.start("exec python3 echo.py 8000")
    made = sandbox.previews.create(port=8000, auth_mode="token")
    url, token = made["preview"]["url"], made["previewToken"]
    shown(window, f"{url}/?crownest_preview_token={token}", "echo: hello from the browser")

    # The app's cookie is its own host's, whatever domain it asked for; ours it has never seen.
    theirs = window.cookies()["theirs"]
    assert theirs["domain"] == url.removeprefix("http://").split(":")[0]
    ask = """
        const done = arguments[arguments.length - 1];
        fetch("/").then((answer) => done(answer.headers.get("x-seen-cookie")));
    """
    assert window.wait(ask) == "theirs=1"

    window.run("window.closed_by = null; socket.onclose = (e) => { window.closed_by = e.code; }")
    client.previews.revoke(made["preview"]["id"])
    eventually(lambda: window.run("return window.closed_by"), lambda code: code is not None)
    window.open(f"{url}/")
    assert window.status() == 404


def test_a_page_of_one_preview_cannot_use_another(sandbox, window):
    sandbox.files.write("index.html", "<p>a page</p>")
    sandbox.commands.start("exec python3 -m http.server 8000")
    sandbox.files.write("echo.py", (HERE / "echo_app.py").read_text())
    sandbox.commands.start("exec python3 echo.py 8001")
    mine = sandbox.previews.create(port=8001, auth_mode="token")
    evil = sandbox.previews.create(port=8000, auth_mode="token")
    for made, text in ((mine, "echo: hello"), (evil, "a page")):
        url = made["preview"]["url"]
        shown(window, f"{url}/?crownest_preview_token={made['previewToken']}", text)

    # The window is on the second one's page now, and the browser has cookies of both.
    connect = """
        const done = arguments[arguments.length - 1];
        const socket = new WebSocket(arguments[0]);
        socket.onopen = () => done("open");
        socket.onerror = () => done("refused");
    """
    target = mine["preview"]["url"].replace("http://", "ws://") + "/echo"
    assert window.wait(connect, target) == "refused"
