"""The asynchronous client: the same answers, and many at once."""

import asyncio

import pytest
from crownest import AsyncCrowNest

from conftest import REQUEST_SECONDS
from contract import refused


@pytest.fixture
def run(team):
    """Runs a coroutine function with a client of its own event loop."""

    def run(story):
        async def with_client():
            async with AsyncCrowNest(
                api_key=team.secret, base_url=team.server.url, timeout=REQUEST_SECONDS
            ) as client:
                await story(client)

        asyncio.run(with_client())

    return run


def test_11_13_14_what_surrounds_sandboxes(run, team):
    async def story(client):
        projects, usage, keys = await asyncio.gather(
            client.projects.list(), client.usage(), client.api_keys.list()
        )
        assert team.project_id in [project["id"] for project in projects]
        assert usage["computeUnitSeconds"]["used"] >= 0
        assert team.key_id in [key["id"] for key in keys]

    run(story)


def test_17_18_25_29_37_41_58_the_main_job(run):
    async def story(client):
        sandbox = await client.sandboxes.create(template="python", metadata={"by": "async"})
        assert sandbox.id in [
            s["id"] for s in await client.sandboxes.list(metadata={"by": "async"})
        ]
        await sandbox.files.write("main.py", "print('hello', flush=True)\nraise SystemExit(4)\n")
        assert (await sandbox.files.read_bytes("main.py")).startswith(b"print")
        heard = []
        command = await sandbox.commands.run("python3 main.py", on_stdout=heard.append)
        assert (command["status"], command["exitCode"]) == ("exited", 4)
        assert "".join(heard) == command["stdout"] == "hello\n"

        killed = await sandbox.kill()
        assert (killed["status"], killed["destroyedReason"]) == ("destroyed", "user_killed")
        with refused(410, "sandbox_destroyed"):
            await sandbox.commands.run("true")

    run(story)


def test_44_46_a_stream_ends_when_its_command_is_canceled(run):
    async def story(client):
        sandbox = await client.sandboxes.create(template="base")
        command = await sandbox.commands.start("echo begun; sleep 60")
        events = []
        async for event in client.commands.stream_logs(command["id"], reconnect=False):
            events.append(event)
            if event["type"] == "log":
                canceled = await sandbox.commands.cancel(command["id"], mode="force")
        assert [e["data"] for e in events if e["type"] == "log"] == ["begun\n"]
        assert events[-1]["type"] == "terminal"
        assert events[-1]["command"] == canceled
        await sandbox.kill()

    run(story)


def test_18_40_ten_commands_at_once(run):
    async def story(client):
        sandbox = await client.sandboxes.create(template="base")
        commands = await asyncio.gather(
            *(sandbox.commands.run(f"sleep 1; echo {n}") for n in range(10))
        )
        assert [command["stdout"] for command in commands] == [f"{n}\n" for n in range(10)]
        await sandbox.kill()

    run(story)


def test_31_the_same_create_ten_times_at_once_is_one_sandbox(run):
    """Of simultaneous requests some may be told to come again; no two may make a sandbox."""

    async def story(client):
        answers = await asyncio.gather(
            *(client.sandboxes.create(template="base", idempotency_key="ten") for _ in range(10)),
            return_exceptions=True,
        )
        made = [answer for answer in answers if not isinstance(answer, Exception)]
        told = {answer.code for answer in answers if isinstance(answer, Exception)}
        assert len({sandbox.id for sandbox in made}) == 1
        assert told <= {"idempotency_request_in_progress"}
        again = await client.sandboxes.create(template="base", idempotency_key="ten")
        assert again.id == made[0].id
        await again.kill()

    run(story)
