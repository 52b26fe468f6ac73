"""Files: every call, and what it says when it cannot."""

import pytest

from contract import refused, seconds_from_now


def test_58_text_goes_in_and_comes_out(sandbox):
    content = "first line\nzweite: äöü \N{SLIGHTLY SMILING FACE}\r\nno end"
    file = sandbox.files.write("notes.txt", content)
    assert file["path"] == "/workspace/notes.txt"
    assert file["type"] == "file"
    assert file["sizeBytes"] == len(content.encode())
    assert sandbox.files.read("notes.txt") == content
    assert sandbox.files.read("/workspace/notes.txt", encoding="utf8") == content
    assert sandbox.files.read("/workspace/./x/../notes.txt") == content
    assert sandbox.commands.run("wc -c < notes.txt")["stdout"].strip() == str(file["sizeBytes"])


def test_58_bytes_go_in_and_come_out(sandbox):
    content = bytes(range(256)) + b"\x00\xff"
    file = sandbox.files.write_bytes("blob.bin", content)
    assert file["sizeBytes"] == 258
    assert sandbox.files.read_bytes("blob.bin") == content
    with refused(400, "invalid_file_encoding"):
        sandbox.files.read("blob.bin")


def test_58_an_empty_file_is_a_file(sandbox):
    assert sandbox.files.write("empty", "")["sizeBytes"] == 0
    assert sandbox.files.read("empty") == ""
    assert sandbox.files.read_bytes("empty") == b""


def test_58_a_command_and_the_api_see_the_same_files(sandbox):
    sandbox.files.write("in.txt", "from outside")
    sandbox.commands.run("tr a-z A-Z < in.txt > out.txt")
    assert sandbox.files.read("out.txt") == "FROM OUTSIDE"


def test_58_read_says_what_it_read(team, sandbox):
    sandbox.files.write("a.txt", "hé")
    with team.http() as http:
        answer = http.get(
            f"/v1/sandboxes/{sandbox.id}/files/read", params={"path": "a.txt", "encoding": "base64"}
        )
    assert answer.json() == {
        "content": "aMOp",
        "encoding": "base64",
        "path": "/workspace/a.txt",
        "sizeBytes": 3,
    }


@pytest.mark.parametrize(
    "name", ["a b+c%20d.txt", "naïve-\N{SLIGHTLY SMILING FACE}.txt", "-rf", "#?&="]
)
def test_58_any_name_will_do(sandbox, name):
    assert sandbox.files.write(name, "x")["path"] == f"/workspace/{name}"
    assert sandbox.files.read(name) == "x"
    assert [entry["name"] for entry in sandbox.files.list()] == [name]
    sandbox.files.delete(name)
    assert sandbox.files.list() == []


def test_59_parents_are_made_only_if_asked(sandbox):
    with refused(404, "parent_directory_not_found"):
        sandbox.files.write("a/b/c.txt", "x")
    assert sandbox.files.list() == []
    file = sandbox.files.write("a/b/c.txt", "x", create_parents=True)
    assert file["path"] == "/workspace/a/b/c.txt"
    assert sandbox.files.read("a/b/c.txt") == "x"


def test_59_overwriting_can_be_refused(sandbox):
    sandbox.files.write("a.txt", "a longer first text")
    assert sandbox.files.write("a.txt", "second")["sizeBytes"] == 6
    with refused(409, "file_already_exists"):
        sandbox.files.write("a.txt", "third", overwrite=False)
    assert sandbox.files.read("a.txt") == "second"
    sandbox.files.write("b.txt", "first", overwrite=False)
    assert sandbox.files.read("b.txt") == "first"


def test_59_a_directory_is_no_file(sandbox):
    sandbox.files.mkdir("dir")
    with refused(400, "path_is_directory"):
        sandbox.files.write("dir", "x")
    with refused(400, "path_is_directory"):
        sandbox.files.read("dir")
    with refused(400, "invalid_file_encoding"):
        sandbox.files.write("x", "not base64!", encoding="base64")
    with refused(400, "invalid_file_encoding"):
        sandbox.files.write("x", "x", encoding="latin1")
    assert [entry["name"] for entry in sandbox.files.list()] == ["dir"]


def test_61_mkdir(sandbox):
    made = sandbox.files.mkdir("dir")
    assert made["path"] == "/workspace/dir"
    assert (made["type"], made["sizeBytes"]) == ("directory", 0)
    with refused(409, "file_already_exists"):
        sandbox.files.mkdir("dir")
    with refused(404, "parent_directory_not_found"):
        sandbox.files.mkdir("x/y/z")
    assert sandbox.files.mkdir("x/y/z", parents=True)["path"] == "/workspace/x/y/z"
    assert sandbox.files.mkdir("x/y/z", parents=True)["type"] == "directory"


def test_61_list(sandbox):
    assert sandbox.files.list() == []
    sandbox.files.write("b.txt", "12345")
    sandbox.files.write(".hidden", "")
    sandbox.files.write("a/inner.txt", "x", create_parents=True)
    entries = sandbox.files.list("/workspace")
    assert [(e["name"], e["type"], e["sizeBytes"], e["path"]) for e in entries] == [
        (".hidden", "file", 0, "/workspace/.hidden"),
        ("a", "directory", 0, "/workspace/a"),
        ("b.txt", "file", 5, "/workspace/b.txt"),
    ]
    assert [entry["path"] for entry in sandbox.files.list("a")] == ["/workspace/a/inner.txt"]
    with refused(404, "file_not_found"):
        sandbox.files.list("missing")
    with refused(400, "path_not_directory"):
        sandbox.files.list("b.txt")
    with refused(400, "path_not_directory"):
        sandbox.files.read("b.txt/inner")


def test_61_stat(sandbox):
    sandbox.files.write("a.txt", "12345")
    stat = sandbox.files.stat("a.txt")
    assert (stat["path"], stat["type"], stat["sizeBytes"]) == ("/workspace/a.txt", "file", 5)
    assert -10 < seconds_from_now(stat["modifiedAt"]) < 1
    root = sandbox.files.stat("/workspace")
    assert (root["path"], root["type"], root["sizeBytes"]) == ("/workspace", "directory", 0)
    with refused(404, "file_not_found"):
        sandbox.files.stat("missing")


def test_61_move(sandbox):
    sandbox.files.write("a.txt", "a")
    sandbox.files.write("b.txt", "b")
    moved = sandbox.files.move("a.txt", "c.txt")
    assert (moved["path"], moved["type"], moved["sizeBytes"]) == ("/workspace/c.txt", "file", 1)
    with refused(404, "file_not_found"):
        sandbox.files.move("a.txt", "d.txt")
    with refused(409, "file_already_exists"):
        sandbox.files.move("c.txt", "b.txt")
    assert sandbox.files.read("b.txt") == "b"
    with refused(404, "parent_directory_not_found"):
        sandbox.files.move("c.txt", "x/c.txt")
    assert sandbox.files.move("c.txt", "b.txt", overwrite=True)["path"] == "/workspace/b.txt"
    assert sandbox.files.read("b.txt") == "a"
    sandbox.files.write("dir/inner", "x", create_parents=True)
    assert sandbox.files.move("dir", "renamed")["type"] == "directory"
    assert sandbox.files.read("renamed/inner") == "x"
    assert [entry["name"] for entry in sandbox.files.list()] == ["b.txt", "renamed"]


def test_61_delete(sandbox):
    sandbox.files.write("dir/a.txt", "x", create_parents=True)
    with refused(409, "directory_not_empty"):
        sandbox.files.delete("dir")
    sandbox.files.delete("dir/a.txt")
    with refused(404, "file_not_found"):
        sandbox.files.delete("dir/a.txt")
    sandbox.files.delete("dir")
    assert sandbox.files.list() == []
    with refused(400, "invalid_request"):
        sandbox.files.delete("/workspace")
