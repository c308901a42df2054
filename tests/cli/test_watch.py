"""`watch`, `hook` and `doorbells` in real processes: a worker is started when mail comes, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from mcp_mailbox.addresses import Address
from mcp_mailbox.doorbell import Outcome, Pointer, Result, Ring
from mcp_mailbox.doorbells import kin, webhook
from mcp_mailbox.doorbells.journal import LIMIT, Journal, last
from mcp_mailbox.errors import Refusal
from mcp_mailbox.fronts.cli import exits
from tests.cli.street import PROGRAM, Agent, Street
from tests.relay.world import DEADLINE


@pytest.fixture
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    one = Street(tmp_path_factory.mktemp("s"))
    yield one
    one.end()


@pytest.fixture(scope="module")
def boulevard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """One that tests share, each with a mailbox of its own."""
    one = Street(tmp_path_factory.mktemp("b"))
    yield one
    one.end()


@pytest.fixture(scope="module")
def planner(boulevard: Street) -> Agent:
    return boulevard.agent("planner")


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
    assert ready, "nothing was started"
    return process.stdout.readline()


def test_a_program_is_started_when_mail_comes_and_told_where_and_from_whom_and_no_more(street: Street) -> None:
    street.agent("builder")
    planner = street.agent("planner")
    script = "import os, sys; print(sys.stdin.read().strip(), os.environ['MCP_MAILBOX_ADDRESS'])"
    watcher = street.watch("--mailbox", "builder", "--once", "--exec", sys.executable, "-c", script)
    planner.send(priority="urgent", subject="a secret too")
    told, _, address = line(watcher).rpartition(" ")
    assert address == "builder@default\n"
    assert json.loads(told) == {
        "mailbox": "builder@default",
        "messages": 1,
        "urgent": 1,
        "from": ["planner@default"],
    }
    assert watcher.wait(DEADLINE) == 0


def test_mail_that_was_there_before_the_watcher_is_not_missed(street: Street) -> None:
    street.agent("builder")
    street.agent("planner").send()
    assert street.run("watch", "--mailbox", "builder", "--once", "--exec", "true").returncode == 0
    assert street.run("watch", "--mailbox", "builder", "--once", "--exec", "sh", "-c", "exit 7").returncode == 7


def test_a_worker_that_leaves_its_mail_is_started_again_and_one_that_takes_it_is_not(street: Street) -> None:
    builder = street.agent("builder")
    planner = street.agent("planner")
    watcher = street.watch("--mailbox", "builder", "--exec", "sh", "-c", "echo started")
    planner.send()
    assert line(watcher) == "started\n"
    began = time.monotonic()
    assert line(watcher) == "started\n"
    assert time.monotonic() - began > 0.5, "not at once: it may leave it for ever"
    [mail] = builder.call("wait_for_message", timeout=0)["messages"]
    builder.call("settle", ids=[mail["id"]], outcome="ack")
    assert watcher.stdout
    ready, _, _ = select.select([watcher.stdout], [], [], 3.0)
    assert not ready or watcher.stdout.readline() == "started\n", "one more may have been under way"


def test_a_killed_watcher_loses_nothing(street: Street) -> None:
    street.agent("builder")
    planner = street.agent("planner")
    command = ("--mailbox", "builder", "--exec", "sh", "-c", "echo $$; exec sleep 1000")
    watcher = street.watch(*command)
    planner.send()
    orphan = int(line(watcher))
    planner.send()
    watcher.kill()
    watcher.wait()
    os.kill(orphan, signal.SIGKILL)
    second = street.watch(*command)
    worker = int(line(second))
    second.terminate()
    assert second.wait(DEADLINE) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{worker}").exists(), "a watcher that is asked to leave takes its worker along"
    assert [each["messages"] for each in last(street.home.path, 10) if each["kind"] == "exec"] == [1, 2]


def test_a_watcher_survives_its_post_office(street: Street) -> None:
    street.agent("builder")
    planner = street.agent("planner")
    watcher = street.watch("--mailbox", "builder", "--once", "--exec", "echo", "started")
    street.home.kill_office()
    planner.send()
    assert line(watcher) == "started\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--exec", "true"), "--mailbox"),
        (("--mailbox", "b", "--exec"), "--exec has no program"),
        (("--mailbox", "b", "--webhook", "ftp://example.org/"), "is no URL"),
        (("--mailbox", "b", "--webhook", "https://user:word@example.org/"), "is no URL"),
        (("--mailbox", "nobody", "--exec", "true"), "nobody"),
    ],
)
def test_what_cannot_be_watched_is_said(street: Street, arguments: tuple[str, ...], says: str) -> None:
    done = street.run("watch", *arguments)
    assert done.returncode in (exits.MISUNDERSTOOD, exits.REFUSED)
    assert says in done.stderr


class Receiver:
    """A server on loopback; `answer` is its status and headers."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answer: tuple[int, dict[str, str]] = (204, {})
        self.came = threading.Semaphore(0)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = receiver.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                receiver.came.release()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/bell?x=1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as one:
        yield one


def test_a_webhook_is_called_and_signed_once_for_each_that_comes(street: Street, receiver: Receiver) -> None:
    street.agent("builder")
    planner = street.agent("planner")
    street.watch(
        "--mailbox", "builder", "--webhook", receiver.url, "--allow-private", MCP_MAILBOX_WEBHOOK_SECRET="a key"
    )
    for count in (1, 2):
        planner.send()
        assert receiver.came.acquire(timeout=DEADLINE)
        headers, body = receiver.heard[-1]
        assert json.loads(body)["messages"] == count
        at, signature = (part.partition("=")[2] for part in headers["mailbox-signature"].split(","))
        assert signature == webhook.sign(b"a key", at, body)
    assert not receiver.came.acquire(timeout=2)
    assert b"secret" not in b"".join(body for _, body in receiver.heard)


def test_a_webhook_in_ones_own_network_is_not_called_unless_that_is_allowed(receiver: Receiver) -> None:
    result = webhook.Webhook(receiver.url).ring({})
    assert result.outcome is Outcome.FAILED
    assert "no public address" in result.reason
    assert receiver.heard == []
    assert webhook.Webhook(receiver.url, private=True).ring({}) == Result(Outcome.RUNG)


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = (302, {"location": receiver.url})
    assert webhook.Webhook(receiver.url, private=True).ring({}) == Result(Outcome.FAILED, "it answered 302")
    assert len(receiver.heard) == 1


def test_a_name_is_resolved_once_and_the_checked_address_is_called(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked and loopback when it is called (DNS rebinding)."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) > 1 else "203.0.113.1", port, *args, **options)
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(webhook, "SECONDS", 0.3)
    monkeypatch.setattr(webhook, "is_public", lambda _: True)
    result = webhook.Webhook(receiver.url.replace("127.0.0.1", "rebind.example")).ring({})
    assert result.outcome is Outcome.FAILED
    assert asked == ["rebind.example"]
    assert receiver.heard == []


def test_a_host_that_is_nowhere_is_named() -> None:
    assert webhook.Webhook("http://nowhere.invalid/").ring({}).reason.startswith("nowhere.invalid: ")


class Dripping:
    """A server, with a certificate where one is given, that answers a bit at a time and without an end.

    With a certificate it ends the handshake only once the time for all of it is over.
    """

    def __init__(self, certificate: trustme.LeafCert | None = None) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.configure_cert(context)
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        caller, _ = self._server.accept()
        with closing(caller), suppress(OSError):
            if self._tls is not None:
                self._shake_hands(caller, self._tls)
            drops = b"HTTP/1.1 200 OK\r\n"
            while not self._stop.wait(0.1):
                if self._tls is not None:
                    self._tls.write(drops)
                caller.sendall(self._outgoing.read() if self._tls is not None else drops)
                drops = b"x: y\r\n"

    def _shake_hands(self, caller: socket.socket, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                if hello := self._outgoing.read():
                    # Each byte has as long again, by the time-out of the socket.
                    self._stop.wait(webhook.SECONDS / 2)
                    caller.sendall(hello[:1])
                    time_is_up()
                    caller.sendall(hello[1:])
                if not (block := caller.recv(65536)):
                    raise ConnectionError("it has hung up") from None
                self._incoming.write(block)
                continue
            return

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._server.close()


def time_is_up() -> None:
    """Return once every timer of this process has gone off."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def given_up(url: str) -> None:
    began = time.monotonic()
    assert webhook.Webhook(url, private=True).ring({}) == Result(Outcome.FAILED, "it did not answer in time")
    assert time.monotonic() - began < 3


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    with closing(Dripping()) as server:
        given_up(f"http://127.0.0.1:{server.port}/")


def test_an_answer_that_never_ends_is_given_up_also_when_connecting_took_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.create_connection

    def slow(*args: Any, **options: Any) -> socket.socket:
        time_is_up()
        return real(*args, **options)

    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    monkeypatch.setattr(socket, "create_connection", slow)
    with closing(Dripping()) as server:
        given_up(f"http://127.0.0.1:{server.port}/")


def test_an_answer_that_never_ends_is_given_up_also_when_the_handshake_took_all_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    with closing(Dripping(authority.issue_cert("127.0.0.1"))) as server:
        given_up(f"https://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "255.255.255.255", "192.0.2.1", "fec0::1", "64:ff9b:1::7f00:1",
    ],
)  # fmt: skip
def test_no_address_is_public_that_is_not(address: str) -> None:
    assert not webhook.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are(address: str) -> None:
    assert webhook.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "file:///etc/passwd", "http://", "http://h/ x", "http://h:99999/", "http://a..b/",
        f"http://{'a' * 64}.org/", "http://a b/",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Refusal):
        webhook.Webhook(url)


# -- hooks


def told(done: subprocess.CompletedProcess[str]) -> str:
    """What a hook of Claude Code or Codex would put before the model."""
    assert (done.returncode, done.stderr) == (0, "")
    if not done.stdout:
        return ""
    found = json.loads(done.stdout)
    if "decision" in found:
        assert found["decision"] == "block"
        return str(found["reason"])
    return str(found["hookSpecificOutput"]["additionalContext"])


def test_a_hook_says_what_waits_for_the_agent_of_the_same_host(street: Street) -> None:
    """This process has started both, as a host does."""
    street.agent("builder")
    street.agent("planner").send()
    street.hosts.pop().end()  # of two servers of one host, which one is meant nobody could tell
    street_says = "You have 1 new message from planner in builder: call wait_for_message."
    assert told(street.run("hook", "SessionStart")) == street_says
    assert told(street.run("hook", "SessionStart")) == street_says
    assert told(street.run("hook", "UserPromptSubmit")) == ""


def test_a_hook_at_the_end_of_a_turn_says_what_came_meanwhile_once(street: Street) -> None:
    planner = street.agent("planner")
    street.agent("builder")
    assert told(street.run("hook", "Stop", MCP_MAILBOX_ADDRESS="builder")) == ""
    planner.send()
    assert "from planner in builder" in told(street.run("hook", "Stop"))
    assert told(street.run("hook", "Stop")) == ""
    planner.send(priority="low")
    assert told(street.run("hook", "Stop")) == "", "low priority is not worth a turn"
    assert "2 new messages" in told(street.run("hook", "UserPromptSubmit"))


def test_a_hook_finds_its_mailbox_by_its_address_where_its_host_has_no_server(street: Street) -> None:
    street.agent("builder")
    street.agent("planner").send()
    for host in street.hosts:
        host.end()
    assert told(street.run("hook", "SessionStart")) == ""
    assert "in builder" in told(street.run("hook", "SessionStart", MCP_MAILBOX_ADDRESS="builder"))
    assert told(street.run("hook", "SessionStart", MCP_MAILBOX_ADDRESS="nobody")) == ""


def test_a_hook_is_silent_where_no_post_office_runs_and_starts_none(street: Street) -> None:
    assert told(street.run("hook", "Stop", MCP_MAILBOX_ADDRESS="builder")) == ""
    assert not street.home.path.exists()


def test_a_hook_of_an_unknown_event_is_a_mistake_of_the_configuration(street: Street) -> None:
    done = street.run("hook", "Nonsense")
    assert done.returncode == 2
    assert "SessionStart" in done.stderr


def test_where_a_host_keeps_all_conversations_in_one_process_its_thread_tells_which_agent_is_meant(
    street: Street,
) -> None:
    """Codex does. This process has started all three, as it does."""
    named = {}
    for thread, name in (("t-1", "builder"), ("t-2", "tester")):
        named[name] = street.agent(name)
        named[name].ask("tools/call", {"name": "list_inbox", "arguments": {}, "_meta": {"threadId": thread}})
    planner = street.agent("planner")
    planner.send("builder")
    planner.send("tester")
    for thread, name in (("t-1", "builder"), ("t-2", "tester"), ("t-3", "")):
        said = json.dumps({"session_id": thread, "hook_event_name": "Stop"})
        done = subprocess.run(
            [*PROGRAM, "hook", "Stop"],
            env=street.home.environment(),
            input=said,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (f"from planner in {name}:" in told(done)) if name else (told(done) == "")


def test_a_hook_tells_nothing_to_a_host_that_an_agent_has_started(street: Street) -> None:
    """A shell between is no host; a program that is one ends the search."""
    street.agent("builder")
    street.agent("planner").send()
    street.hosts.pop().end()
    host = street.directory / "another-host"
    host.symlink_to(sys.executable)
    inner = f"import subprocess, sys; sys.exit(subprocess.call({[*PROGRAM, 'hook', 'Stop']!r}))"
    done = subprocess.run(
        [host, "-c", inner],
        env=street.home.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told(done) == ""
    assert "in builder" in told(street.run("hook", "Stop"))


# -- hooks that wait


class Waiting:
    """A host of a hook that waits: the hook is its child, and hears its end."""

    def __init__(self, street: Street, address: str, event: str = "Stop", **env: str) -> None:
        command = [*PROGRAM, "hook", event, "--rewake"]
        inner = (
            f"import subprocess, sys\nhook = subprocess.Popen({command!r}, stdin=subprocess.DEVNULL)\n"
            "print(hook.pid, flush=True)\ncode = hook.wait()\nprint(code, flush=True)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", inner],
            env=street.home.environment(MCP_MAILBOX_ADDRESS=address, **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        street.watchers.append(self.process)
        self.hook = os.pidfd_open(int(line(self.process)))

    def code(self) -> int:
        return int(line(self.process))

    def said(self) -> str:
        assert self.process.stderr
        return self.process.stderr.readline()

    def has_ended(self, seconds: float = DEADLINE) -> bool:
        return bool(select.select([self.hook], [], [], seconds)[0])


def test_a_hook_that_waits_wakes_its_host_once_mail_comes_and_the_next_one_does_not_tell_of_it_again(
    boulevard: Street, planner: Agent
) -> None:
    boulevard.agent("sleeper")
    waiting = Waiting(boulevard, "sleeper")
    assert not waiting.has_ended(0.5)
    planner.send("sleeper", priority="low")
    planner.send("sleeper")
    assert waiting.code() == 2
    assert waiting.said().endswith("from planner in sleeper; call wait_for_message.\n")
    after = Waiting(boulevard, "sleeper")
    assert not after.has_ended(1.0)
    planner.send("sleeper")
    assert after.code() == 2
    assert {each["kind"] for each in last(boulevard.home.path, 10)} == {"rewake"}


def test_a_hook_that_waits_ends_with_its_host(boulevard: Street) -> None:
    boulevard.agent("ender")
    waiting = Waiting(boulevard, "ender")
    assert not waiting.has_ended(0.5)
    waiting.process.kill()
    assert waiting.has_ended()


def test_a_hook_that_waits_is_rung_by_the_post_office_that_comes_after_a_crash(
    boulevard: Street, planner: Agent
) -> None:
    boulevard.agent("survivor")
    waiting = Waiting(boulevard, "survivor")
    assert not waiting.has_ended(0.8)
    boulevard.home.kill_office()
    planner.send("survivor")
    assert waiting.code() == 2


def test_a_session_that_begins_is_told_of_what_waits_as_soon_as_its_mailbox_is_there(
    boulevard: Street, planner: Agent
) -> None:
    waiting = Waiting(boulevard, "latecomer", "SessionStart")
    assert not waiting.has_ended(0.3)
    boulevard.agent("latecomer")
    planner.send("latecomer")
    assert waiting.code() == 2


@pytest.mark.parametrize(
    "env", [{"CLAUDE_CODE_ENTRYPOINT": "sdk-cli"}, {"MCP_MAILBOX_DOORBELL": "off"}, {"MCP_MAILBOX_QUIET": "at night"}]
)
@pytest.mark.usefixtures("planner")
def test_a_hook_does_not_wait_where_nobody_could_be_woken(boulevard: Street, env: dict[str, str]) -> None:
    assert Waiting(boulevard, "planner", **env).code() == 0


@pytest.mark.usefixtures("planner")
def test_a_turn_leaves_no_hook_behind_where_there_is_no_mailbox(boulevard: Street) -> None:
    assert Waiting(boulevard, "nobody-at-all").code() == 0


def test_a_hook_does_not_wait_where_its_host_has_a_bell_of_its_own(boulevard: Street) -> None:
    """This process is the host: it has started the server and the hook."""
    bells = {"CLAUDE_CODE_MESSAGING_SOCKET": "/nowhere", "CLAUDE_CODE_MESSAGING_TOKEN": "a-token"}
    boulevard.agent("ringer", "claude-code", **bells)
    done = boulevard.run("hook", "Stop", "--rewake", MCP_MAILBOX_ADDRESS="ringer")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hook_imports_little_more_than_an_interpreter(street: Street) -> None:
    """What a host runs at each turn is to cost it nothing."""
    street.agent("builder")

    def imported(*command: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-P", *command],
            env=street.home.environment(PYTHONPROFILEIMPORTTIME="1"),
            stdin=subprocess.DEVNULL,
            check=True,
            capture_output=True,
            text=True,
        )
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    more = imported("-m", "mcp_mailbox", "hook", "Stop") - imported("-c", "pass")
    assert len(more) < 60, more
    assert more.isdisjoint({"asyncio", "anyio", "typing", "argparse", "pathlib", "subprocess"})


class TestKin:
    """Which relay is meant, from a table of processes: 1 init, 2 terminal, 10 and 20 hosts, 11 a launcher."""

    PARENTS: ClassVar = {10: 2, 20: 2, 11: 10, 12: 10, 21: 20, 2: 1}
    NAMES: ClassVar = {10: "claude", 20: "claude", 11: "uvx", 2: "bash"}

    def nearest(self, ancestors: list[int], **parents: int) -> str | None:
        return kin.nearest(
            ancestors, parents, lambda pid: self.PARENTS.get(pid, 0), lambda pid: self.NAMES.get(pid, "")
        )

    def test_it_is_the_one_of_the_same_host(self) -> None:
        assert self.nearest([12, 10, 2], a=10, b=20) == "a"
        assert self.nearest([21, 20, 2], a=10, b=20) == "b"

    def test_a_launcher_between_is_seen_through(self) -> None:
        assert self.nearest([12, 10, 2], a=11, b=20) == "a"

    def test_two_hosts_in_one_terminal_are_not_mixed_up(self) -> None:
        assert self.nearest([21, 20, 2], a=10) is None

    def test_the_newest_of_several_is_meant(self) -> None:
        assert self.nearest([10, 2], a=10, b=10) == "b"

    def test_a_relay_that_does_not_say_is_nobodys(self) -> None:
        assert self.nearest([10, 2], a=0, b=1) is None


# -- the log


def ring(number: int, reason: str = "") -> Ring:
    result = Result(Outcome.FAILED, reason) if reason else Result(Outcome.RUNG)
    return Ring("claude", result, Pointer(number, Address("builder", "default"), 1, (Address("planner", "default"),)))


def test_the_last_rings_are_shown_with_what_came_of_them(street: Street) -> None:
    nobody = street.run("doorbells")
    assert "Nobody was rung yet" in nobody.stderr
    assert nobody.returncode == exits.NOTHING
    street.home.path.mkdir(mode=0o700)
    journal = Journal(street.home.path)
    for number in range(3):
        journal.note(ring(number, "connection refused" * (number == 1)))
    journal.answered(Address("builder", "default"), 2, 4002)
    shown = street.run("doorbells").stdout
    assert "failed: connection refused" in shown
    assert shown.count("planner") == 3
    assert [line.rpartition("planner")[2].strip() for line in shown.splitlines()[1:]] == [
        "unanswered",
        "failed: connection refused",
        "answered after 4 s",
    ]
    found = json.loads(street.run("doorbells", "--json", "-n", "2").stdout)
    assert [(each["at"], each["outcome"], each.get("answered_at")) for each in found] == [
        (1, "failed", None),
        (2, "rung", 4002),
    ]


def test_the_log_of_rings_is_its_owners_alone_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(5000):
        journal.note(ring(number, "x" * 100))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) < 2 * LIMIT + 1000
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert [each["at"] for each in last(tmp_path, 1000)] == list(range(4000, 5000))


def test_a_log_that_cannot_be_written_keeps_nobody_from_ringing(tmp_path: Path) -> None:
    Journal(tmp_path / "not there").note(ring(1))
    (tmp_path / "doorbells.log").write_bytes(b'{"at": 1}\nhalf a li\n[]\n\xff\n')
    assert last(tmp_path, 10) == [{"at": 1}]


def test_what_mail_may_say_does_not_reach_a_terminal(street: Street) -> None:
    street.home.path.mkdir(mode=0o700)
    Journal(street.home.path).note(ring(1, "\x1b[2J[red]oops"))
    ours, theirs = pty.openpty()
    subprocess.run([*PROGRAM, "doorbells"], env=street.home.environment(TERM="xterm"), stdout=theirs, check=True)
    os.close(theirs)
    drawn = os.read(ours, 65536)
    os.close(ours)
    assert b"\x1b[2J" not in drawn
    assert b"[red]oops" in drawn


def test_a_hook_loads_neither_the_command_line_nor_mail_nor_the_sdk(street: Street) -> None:
    code = (
        "import sys; sys.argv = ['mcp-mailbox', 'hook', 'Stop']\n"
        "from mcp_mailbox.__main__ import main\n"
        "assert main() == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=street.home.environment(), capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "mcp_mailbox.hook" in loaded
    for name in ("argparse", "anyio", "asyncio", "pydantic", "mcp", "rich", "sqlite3", "typing", "dataclasses"):
        assert name not in loaded
    ours = {each for each in loaded if each.startswith("mcp_mailbox.")}
    assert ours == {
        f"mcp_mailbox.{name}" for name in ("__main__", "hook", "processes", "rendezvous", "machine", "files", "frames")
    }


def test_a_hook_says_how_it_is_called_to_a_person(street: Street) -> None:
    assert "exit codes: 0 done" in street.run("hook", "--help").stdout
    assert street.run("hook", "Nothing").returncode == exits.MISUNDERSTOOD
