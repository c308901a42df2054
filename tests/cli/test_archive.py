"""`mcp-mailbox backup`, `restore` and `export`, as a person uses them while agents are at work."""

from __future__ import annotations

import json
import mailbox
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from email.header import decode_header, make_header
from email.message import Message
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from mcp_mailbox import rendezvous, restoring
from tests.fronts.world import Agent, Home, Town
from tests.relay.world import DEADLINE
from tests.view.bulk import build

pytestmark = pytest.mark.anyio
Done = subprocess.CompletedProcess[str]


class Person:
    """Somebody at a shell, whose agents are at work."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.town = Town(Home(directory, **settings), "default")
        self.home = self.town.home.path

    async def run(self, *arguments: str, **env: str) -> Done:
        command = [sys.executable, "-m", "mcp_mailbox", *arguments]
        with anyio.fail_after(DEADLINE * 4):
            done = await anyio.run_process(
                command, check=False, cwd=self.directory, env=self.town.environment(**env), stderr=subprocess.PIPE
            )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    async def does(self, *arguments: str) -> str:
        done = await self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def refused(self, *arguments: str, code: int = 3) -> str:
        done = await self.run(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1 or code == 2
        return done.stderr


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    one = Person(tmp_path)
    yield one
    one.town.end()
    one.town.home.end()


@pytest.fixture(scope="module")
def lasting_person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Return one for all tests that leave everything as it was."""
    one = Person(tmp_path_factory.mktemp("p"))
    yield one
    one.town.end()
    one.town.home.end()


@asynccontextmanager
async def at_work(person: Person) -> AsyncIterator[list[str]]:
    """Three agents that send as fast as they can; what has been acknowledged so far."""
    acknowledged: list[str] = []
    done = anyio.Event()

    enough = anyio.Event()

    async def send(agent: Agent, number: int) -> None:
        count = 0
        while not done.is_set():
            body = f"{number} {count}"
            await agent.send("reader", body)
            acknowledged.append(body)
            count += 1
            if len(acknowledged) == 30:
                enough.set()

    async with person.town.agents(*((f"sender-{number}", "2025-11-25") for number in range(3))) as agents:
        await agents[0].call("create_mailbox", name="reader")
        await agents[0].call("create_mailbox", name="sender-0")
        async with anyio.create_task_group() as tasks:
            for number, agent in enumerate(agents):
                tasks.start_soon(send, agent, number)
            await enough.wait()
            yield acknowledged
            done.set()


def bodies(lines: str) -> list[str]:
    return [json.loads(line)["body"] for line in lines.splitlines()]


async def test_a_backup_taken_under_load_has_all_that_was_acknowledged_before(person: Person) -> None:
    async with at_work(person) as acknowledged:
        before = list(acknowledged)
        made = json.loads(await person.does("backup", "backup.db", "--json"))
        assert len(acknowledged) > len(before)
    file = person.directory / "backup.db"
    assert made == {"file": str(file), "bytes": file.stat().st_size}
    assert file.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        found = {row[0] for row in db.execute("SELECT body FROM message")}
    assert set(before) <= found
    assert sorted(path.name for path in person.directory.iterdir()) == ["backup.db", "h"]


async def test_a_store_that_was_wiped_comes_back_from_its_backup(person: Person) -> None:
    async with person.town.agent("bob") as bob:
        first = await bob.send("bob", "kept")
        await person.does("backup", "backup.db")
        lost = await bob.send("bob", "lost")
    await person.does("stop")
    for file in person.home.glob("mail.db*"):
        file.unlink()
    assert "Restored." in await person.does("restore", "backup.db")
    async with person.town.agent("bob") as bob:
        assert await bob.bodies() == ["kept"]
        assert (await bob.call("read", id=first["id"]))["body"] == "kept"
        new = await bob.send("bob", "new")
        assert new["id"] != lost["id"]
        assert (await bob.refused("read", id=lost["id"]))["error"] == "unknown_message"
        handles = [each["id"] for each in await bob.wait()]
        assert (await bob.call("settle", ids=handles, outcome="ack"))["settled"] == handles


@pytest.mark.soak
async def test_a_restore_waits_for_nobody_and_replaces_nothing_unasked(person: Person) -> None:
    async with person.town.agent("bob") as bob:
        await bob.send("bob", "kept")
        await person.does("backup", "backup.db")
        await bob.send("bob", "since")
        assert "Run `mcp-mailbox stop` first" in await person.refused("restore", "backup.db", "--force")
    await person.does("stop")
    lock = rendezvous.hold(str(person.home))
    assert lock is not None
    assert "Run `mcp-mailbox stop` first" in await person.refused("restore", "backup.db", "--force")
    os.close(lock)
    assert "--force" in await person.refused("restore", "backup.db")
    done = json.loads(await person.does("restore", "backup.db", "--force", "--json"))
    assert done["tokens_kept"]
    async with person.town.agent("bob") as bob:
        assert await bob.bodies() == ["kept"]
    await person.does("stop")
    await person.does("restore", done["kept"], "--force")
    async with person.town.agent("bob") as bob:
        assert await bob.bodies() == ["kept", "since"]
    for file in person.home.iterdir():
        assert file.is_socket() or file.stat().st_mode & 0o777 == 0o600, file


async def test_a_post_office_that_comes_up_during_a_restore_keeps_its_store(person: Person) -> None:
    async with person.town.agent("bob") as bob:
        await bob.send("bob", "kept")
        await person.does("backup", "backup.db")
        await bob.send("bob", "since")
    await person.does("stop")
    locks: list[int | None] = []

    def come_up(_done: int, _of: int) -> None:
        if not locks:
            locks.append(rendezvous.hold(str(person.home)))

    with pytest.raises(rendezvous.Refused, match="mcp-mailbox stop"):
        restoring.restore(str(person.home), person.directory / "backup.db", come_up, force=True)
    assert locks[0] is not None
    os.close(locks[0])
    async with person.town.agent("bob") as bob:
        assert await bob.bodies() == ["kept", "since"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["backup"], 2, "required: file"),
        (["backup", "nowhere/backup.db"], 3, "Choose a directory"),
        (["backup", "."], 3, "exists"),
        (["backup", "text", "--force"], 3, "is no backup"),
        (["backup", "h/mail.db", "--force"], 3, "the store itself"),
        (["export"], 2, "Give the address of a mailbox, or --channel"),
        (["export", "bob", "--format", "pdf"], 2, "invalid choice"),
        (["export", "bob", "--format", "maildir"], 3, "-o PATH"),
        (["export", "bobb"], 3, "Did you mean 'bob'?"),
        (["export", "a@b@c"], 3, "An address is name@space."),
        (["export", "theirs"], 3, "You have no mailbox 'theirs'"),
        (["export", "bob", "--thread", "1abcd"], 3, "No message '1abcd'"),
        (["export", "bob", "-o", "text"], 3, "exists"),
        (["export", "bob", "-o", "nowhere/mail.mbox"], 3, "Choose a directory"),
    ],
)
async def test_a_mistake_is_one_line_with_what_to_do(
    lasting_person: Person, arguments: list[str], code: int, said: str
) -> None:
    person = lasting_person
    (person.directory / "text").write_text("years of work")
    if code == 3:
        async with person.town.agent("bob"):
            pass
    assert said in await person.refused(*arguments, code=code)
    assert (person.directory / "text").read_text() == "years of work"
    assert sorted(path.name for path in person.directory.iterdir() if path.name != "h") == ["text"]


async def test_a_backup_that_is_not_there_is_not_restored(person: Person) -> None:
    assert "is not there" in await person.refused("restore", "absent")


async def test_an_export_has_all_mail_in_each_format(person: Person) -> None:
    async with person.town.agents(("ann", "2025-11-25"), ("bürger", "2025-11-25")) as (ann, bob):
        first = await ann.send("bürger", "From here\r\nto there", subject="grüße *x*")
        urgent = await ann.send("bürger", "```\n\x1b[31m", priority="urgent")
        await bob.call("settle", ids=[urgent["id"]], outcome="ack")
        await bob.send("ann", "an answer", reply_to=first["id"])
        await ann.send("ann", "not his")
        for name in ("mail.mbox", "mail.md", "mail.jsonl"):
            assert await person.does("export", "bürger", "-o", name) == ""
        await person.does("export", "bürger", "--format", "maildir", "-o", "mail")
        lines = await person.does("export", "bürger@default")
        thread = await person.does("export", "bürger", "--thread", first["id"])
    expected = ["From here\r\nto there", "```\n\x1b[31m", "an answer"]
    assert bodies(lines) == expected
    assert (person.directory / "mail.jsonl").read_text() == lines
    assert bodies(thread) == [expected[0], expected[2]]
    states = [(each["state"], each["sent"], each["priority"]) for each in map(json.loads, lines.splitlines())]
    assert states == [("acked", False, "normal"), ("acked", False, "urgent"), (None, True, "normal")]
    progress = [each["recipients"] for each in map(json.loads, lines.splitlines())]
    assert progress[:2] == [[], []]
    [answered] = progress[2]
    assert answered["to"] == "ann@default"
    assert answered["state"] in {"stored", "rung"}
    assert (answered["at"] is None) == (answered["state"] == "stored")
    box = mailbox.mbox(person.directory / "mail.mbox", create=False)
    assert [message.get_payload(decode=True) for message in box] == [each.encode() for each in expected]
    assert [message["X-Mailbox-State"] for message in box] == ["acked", "acked", "sent"]
    ids = [message["Message-ID"] for message in box]
    assert [message["In-Reply-To"] for message in box] == [None, None, ids[0]]
    box.close()
    folder = mailbox.Maildir(person.directory / "mail", create=False)
    assert sorted(message["Message-ID"] for message in folder) == sorted(ids)
    text = (person.directory / "mail.md").read_text()
    assert "# Mail of `bürger@default`" in text
    assert "\x1b" not in text
    for name, mode in (("mail.mbox", 0o600), ("mail.md", 0o600), ("mail", 0o700)):
        assert (person.directory / name).stat().st_mode & 0o777 == mode


async def test_an_export_tells_what_became_of_mail_and_what_the_post_office_said_of_it(person: Person) -> None:
    async with person.town.agents(("ann", "2025-11-25"), ("bob", "2025-11-25"), ("eve", "2025-11-25")) as (ann, bob, _):
        sent = await ann.call("send", to="bob", body={"n": [1, "é"]}, cc="eve", ttl=3600, subject="data")
        [held] = await bob.wait()
        await bob.call("settle", ids=[held["id"]], outcome="reject", reason="not\nmine")
        await ann.call("send", to="bob", body="later", delay=600)
        his, hers = [await person.does("export", name) for name in ("bob", "ann")]
        await person.does("export", "bob", "-o", "mail.mbox")
        await person.does("export", "bob", "--format", "maildir", "-o", "mail")
    first, second = map(json.loads, his.splitlines())
    assert (first["body"], first["format"], first["cc"]) == ({"n": [1, "é"]}, "json", ["eve@default"])
    assert (first["state"], first["reason"], first["attempts"]) == ("rejected", "not\nmine", 1)
    times = [first[name] for name in ("accepted_at", "leased_at", "surfaced_at", "settled_at", "expires_at")]
    assert None not in times
    assert (times[0], times[-1]) == (min(times), max(times))
    assert (second["state"] in {"stored", "rung"}, second["deliver_at"] > second["accepted_at"]) == (True, True)
    mine = [json.loads(line) for line in hers.splitlines()]
    assert [(each["kind"], each["from"], each["state"]) for each in mine if not each["sent"]] == [
        ("report", "postmaster@default", mine[1]["state"])
    ]
    assert mine[1]["reply_to"] == sent["id"]
    box = mailbox.mbox(person.directory / "mail.mbox", create=False)
    data, later = box
    assert (data.get_content_type(), data["Cc"]) == ("application/json", "eve@default")
    payload = data.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert json.loads(payload) == {"n": [1, "é"]}
    assert (data["X-Mailbox-State"], str(make_header(decode_header(data["X-Mailbox-Reason"])))) == (
        "rejected",
        "not\nmine",
    )
    assert later["X-Mailbox-Deliver"] == second["deliver_at"]
    box.close()
    folder = mailbox.Maildir(person.directory / "mail", create=False)
    assert {message["X-Mailbox-Id"]: message.get_subdir() for message in folder} == {
        first["id"]: "cur",
        second["id"]: "new",
    }


PNG = b"\x89PNG\r\n\x1a\n\0" + bytes(range(256)) * 5000
"""More than one answer's worth of it."""


@pytest.mark.soak
async def test_an_export_has_what_is_attached_in_each_format_and_a_backup_too(person: Person) -> None:
    (person.directory / "plan.md").write_text("the plän")
    (person.directory / "a b.png").write_bytes(PNG)
    files = {"plan.md": "the plän".encode(), "a b.png": PNG}
    environment = {"MCP_MAILBOX_ATTACH": str(person.directory)}
    async with person.town.agent("ann", env=environment) as ann:
        sent = await ann.send("ann", "see", attach=[str(person.directory / name) for name in files])
        await ann.send("ann", "nothing")
        for name in ("mail.mbox", "mail.jsonl", "mail.md"):
            await person.does("export", "ann", "-o", name)
        await person.does("export", "ann", "--format", "maildir", "-o", "mail")
        text = await person.does("export", "ann", "--format", "markdown")
        await person.does("backup", "backup.db")
        assert json.loads(await person.does("status", "--json"))["attachments"]["bytes"] == len(PNG) + 9
        assert "1.3 MB" in await person.does("status")
    first, second = [json.loads(line) for line in (person.directory / "mail.jsonl").read_text().splitlines()]
    assert {each["name"]: b64decode(each["content"]) for each in first["attachments"]} == files
    assert [each["sha256"] for each in first["attachments"]] == [sha256(each).hexdigest() for each in files.values()]
    assert second["attachments"] == []
    with closing(mailbox.mbox(person.directory / "mail.mbox", create=False)) as box:
        assert [parts(each) for each in box] == [files, {}]
    maildir = mailbox.Maildir(person.directory / "mail", create=False)  # in the order of the directory
    assert sorted(map(parts, maildir), key=len) == [{}, files]
    markdown = (person.directory / "mail.md").read_text()
    assert f"[plan\\.md](mail.md.attachments/{sent['id']}/plan.md)" in markdown
    beside = person.directory / "mail.md.attachments" / sent["id"]
    assert {path.name: path.read_bytes() for path in beside.iterdir()} == files
    assert "- attached: a b\\.png, 1280009 bytes\n" in text
    await person.does("stop")
    shutil.rmtree(person.home)
    assert json.loads(await person.does("restore", "backup.db", "--json"))["attachments_missing"] == 0
    async with person.town.agent("ann") as ann:
        assert (await ann.call("read", id=sent["id"], attachment="plan.md"))["body"] == "the plän"
        lost = await ann.call("read", id=sent["id"], attachment="a b.png")
        assert content_of(lost["path"]) == PNG
        digest = sha256(PNG).hexdigest()
        (person.home / "mail.db.attachments" / digest[:2] / digest[2:]).unlink()
        done = await person.run("export", "ann")
        assert done.returncode == 1
        assert f"'a b.png' of {sent['id']}" in done.stderr
        assert bodies(done.stdout) == ["see", "nothing"]


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


def parts(message: Message) -> dict[str, bytes]:
    found = {}
    for part in message.walk():
        if name := part.get_filename():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            found[name] = payload
    return found


@pytest.mark.soak
async def test_an_export_has_what_was_there_when_it_began_and_so_it_ends(person: Person) -> None:
    await anyio.to_thread.run_sync(_fill, person.home, 10_000)
    async with person.town.agent("bob") as bob:
        await bob.send("box-1", "before")
        command = [sys.executable, "-m", "mcp_mailbox", "export", "box-1"]
        async with await anyio.open_process(command, env=person.town.environment(), stderr=None) as export:
            assert export.stdout is not None
            found = await export.stdout.receive()  # it has begun, and goes on as its output is read
            await bob.send("box-1", "meanwhile")
            async for block in export.stdout:
                found += block
    said = bodies(found.decode())
    assert len(said) == 5_001
    assert said[-1] == "before"


async def test_an_export_into_a_pipe_that_is_closed_ends_quietly(person: Person) -> None:
    await anyio.to_thread.run_sync(_fill, person.home, 5_000)
    command = f"{sys.executable} -m mcp_mailbox export box-1 | head -n 1"
    done = await anyio.run_process(
        ["/bin/bash", "-o", "pipefail", "-c", command], env=person.town.environment(), stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["body"] == "hello"


def _fill(home: Path, messages: int) -> None:
    """Make a store of the person's own with so many messages, none old enough to be removed while somebody looks."""
    home.mkdir(mode=0o700)
    build(home / "mail.db", messages, time.time_ns() // 1_000_000 - 3_600_000)
    with closing(sqlite3.connect(home / "mail.db")) as db:
        db.execute("UPDATE mailbox SET owner = 'local'")
        db.commit()


async def test_a_post_office_that_is_due_to_leave_stays_for_a_backup(tmp_path: Path) -> None:
    person = Person(tmp_path, MCP_MAILBOX_IDLE="0.01")
    person.home.mkdir(mode=0o700)
    build(person.home / "mail.db", 100_000, 1)
    try:
        assert "has everything" in await person.does("backup", "backup.db")
    finally:
        person.town.home.end()


async def test_what_is_under_way_is_shown_to_who_watches(person: Person) -> None:
    async with person.town.agent("bob"):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "mcp_mailbox", "backup", "backup.db"]
        environment = person.town.environment(TERM="xterm")
        await anyio.run_process(command, cwd=person.directory, env=environment, stderr=theirs)
        os.close(theirs)
        assert b"backup" in os.read(ours, 100_000)
        os.close(ours)


if sys.platform == "linux" and os.geteuid() == 0:

    @contextmanager
    def small_disk(place: Path) -> Iterator[None]:
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)

    async def test_a_full_disk_is_told_and_nothing_is_left_on_it(person: Person) -> None:
        async with person.town.agent("bob") as bob:
            for _ in range(5):
                await bob.send("bob", "x" * 50_000)
            with small_disk(person.directory / "small"):
                for command, code in (
                    (["backup", "small/backup.db"], 4),
                    (["export", "bob", "-o", "small/mail.mbox"], 3),
                ):
                    said = await person.refused(*command, code=code)
                    assert "cannot be written" in said or "is full" in said
                    assert list((person.directory / "small").iterdir()) == []
            assert len(await bob.bodies()) == 5


# -- a store of a newer program

NEWER = "mcp-mailbox: The store {}/mail.db has schema 999"


@pytest.fixture
def newer(person: Person) -> Person:
    person.home.mkdir(mode=0o700)
    build(person.home / "mail.db", 100, 1)
    with closing(sqlite3.connect(person.home / "mail.db")) as db:
        db.execute("PRAGMA user_version = 999")
    return person


@pytest.mark.parametrize(
    "arguments", [["token", "list"], ["backup", "backup.db"], ["export", "bob"], ["serve", "--port", "0"]]
)
async def test_each_command_says_that_the_store_is_newer_and_what_to_do(newer: Person, arguments: list[str]) -> None:
    done = await newer.run(*arguments)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"The store {newer.home}/mail.db has schema 999" in done.stderr
    assert "Upgrade mcp-mailbox" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in newer.directory.iterdir()] == ["h"]


async def test_a_host_hears_that_the_store_is_newer_and_what_to_do(newer: Person) -> None:
    host = newer.town.host()
    message = host.ask("initialize")["message"]
    assert f"The store {newer.home}/mail.db has schema 999" in message
    assert "Upgrade mcp-mailbox" in message


async def test_a_newer_backup_is_not_restored_and_a_newer_store_may_be_replaced(newer: Person) -> None:
    (newer.home / "mail.db").rename(newer.directory / "newer.db")
    said = await newer.refused("restore", "newer.db", code=4)
    assert "newer.db has schema 999" in said
    assert "Upgrade mcp-mailbox" in said
    async with newer.town.agent("bob") as bob:
        await bob.send("bob", "kept")
        await newer.does("backup", "older.db")
    await newer.does("stop")
    (newer.directory / "newer.db").rename(newer.home / "mail.db")
    done = await newer.run("restore", "older.db", "--force")
    assert done.returncode == 0, done.stderr
    assert "token list" in done.stderr
    async with newer.town.agent("bob") as bob:
        assert await bob.bodies() == ["kept"]
