"""`mcp-mailbox invite`, `join`, `leave`: a hub, and a machine (a home of its own) that joins it."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits
from tests.cli.test_commands import INITIALIZE, PROGRAM, Shell
from tests.fronts.world import Served
from tests.http.caller import Caller
from tests.link.proxy import Proxy

pytestmark = pytest.mark.soak

GOOD = r"mcp-mailbox join (http://127\.0\.0\.1:\d+) ((?:[0-9A-Z]{4}-){6}[0-9A-Z]{4})\n"
CODE = "0000-0000-0000-0000-0000-0000-0000"
"""Its check is right, and nobody has made it."""


class Thief:
    """Stands between a machine and the hub, and passes requests on; answers only while it is `honest`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.hub = 0
        self.honest = False
        self.seen: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with line, socket.create_connection(("127.0.0.1", self.hub)) as hub:
                asked = b""
                while b"}" not in asked:
                    asked += line.recv(65536)
                self.seen.append(asked)
                hub.sendall(asked)
                answer = b""
                while not answer.endswith(b"}"):
                    answer += hub.recv(65536)
                if self.honest:
                    line.sendall(answer)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def thief() -> Iterator[Thief]:
    one = Thief()
    yield one
    one.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, thief: Thief) -> Iterator[Served]:
    names = [each for name in (f"127.0.0.1:{thief.port}", "hub.invalid") for each in ("--allow-host", name)]
    served = Served(tmp_path_factory.mktemp("hub"), *names)
    served.start()
    thief.hub = served.port
    yield served
    served.end()


@pytest.fixture
def machine(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


class Hub(Shell):
    """The terminal of whoever runs the hub."""

    def __init__(self, hub: Served) -> None:
        super().__init__(hub.path)
        self.environment["MCP_MAILBOX_HOME"] = str(hub.path)

    def invite(self, *arguments: str) -> tuple[str, str]:
        """Return the address and the code that it prints."""
        done = self.run("invite", *arguments)
        assert done.returncode == 0, done.stderr
        found = re.fullmatch(GOOD, done.stdout)
        assert found is not None, done.stdout
        return found[1], found[2]

    def invited(self, principal: str) -> list[dict[str, Any]]:
        listed = json.loads(self.run("invite", "--list", "--json").stdout)
        return [each for each in listed if each["principal"] == principal]


@pytest.fixture
def owner(hub: Served) -> Hub:
    return Hub(hub)


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """Answer so what is asked at this port, once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            line, _ = listener.accept()
            with line:
                asked = b""
                while b"}" not in asked:
                    asked += line.recv(65536)
                line.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def kept(machine: Shell) -> dict[str, str]:
    found: dict[str, str] = json.loads((machine.home / ".mcp-mailbox" / "hub.json").read_text())
    return found


def test_one_line_typed_on_another_machine_lets_it_in_and_shows_no_token(
    owner: Hub, machine: Shell, hub: Served
) -> None:
    url, code = owner.invite("--space", "team", "--mailbox", "laptop", "--principal", "anna", "--token-expires", "30d")
    done = machine.run("join", f"{url}/mcp", code.lower())
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Joined {url}: this machine speaks there for anna in the space team" in done.stdout
    assert "Restart your hosts" in done.stdout
    joined = kept(machine)
    assert (joined["url"], joined["principal"], joined["space"]) == (url, "anna", "team")
    assert joined["token"] not in done.stdout
    home = machine.home / ".mcp-mailbox"
    assert [path.name for path in home.iterdir()] == ["hub.json"]
    assert stat.S_IMODE((home / "hub.json").stat().st_mode) == 0o600
    caller = Caller(hub.port, joined["token"], "team")
    assert caller.call("create_mailbox")["address"] == "laptop@team"
    assert joined["id"] in owner.run("invite", "--list").stdout


def test_a_person_on_a_machine_that_was_invited_to_a_space_is_in_it(owner: Hub, machine: Shell) -> None:
    assert owner.run("inbox", "--space", "crew", MCP_MAILBOX_ADDRESS="boss").returncode == exits.NOTHING
    machine.run("join", *owner.invite("--space", "crew"))
    try:
        machine.environment["MCP_MAILBOX_ADDRESS"] = "guest"
        assert machine.run("inbox").returncode == exits.NOTHING
        sent = machine.run("send", "boss", "-b", "here I am")
        assert (sent.returncode, " for boss: " in sent.stdout) == (exits.DONE, True), sent
        assert "boss" in machine.run("agents").stdout
        assert "here I am" in owner.run("inbox", "--space", "crew", "--json", MCP_MAILBOX_ADDRESS="boss").stdout
        # Another hub's token, or another hub, has nothing to do with that invitation.
        there = {"MCP_MAILBOX_HUB": kept(machine)["url"], "MCP_MAILBOX_TOKEN": "mbx_x"}
        for other in (there, {"MCP_MAILBOX_HUB": "http://127.0.0.1:1"}):
            environment = machine.environment | other
            program = "from mcp_mailbox import machine; print(machine.space(machine.home()))"
            done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
            assert done.stdout == b"default\n"
    finally:
        machine.run("stop")


def test_what_is_typed_after_joining_or_leaving_goes_where_mail_is_then(owner: Hub, machine: Shell) -> None:
    machine.environment["MCP_MAILBOX_ADDRESS"] = "guest"
    try:
        assert machine.run("inbox").returncode == exits.NOTHING  # a post office of this machine's own runs
        assert machine.run("join", *owner.invite("--principal", "gustav")).returncode == exits.DONE
        said = machine.run("status").stdout
        assert "joined; it is asked once a post office runs" in said
        assert "joined; it is asked once a post office runs" in machine.run("doctor", "--quick").stdout
        assert machine.run("inbox").returncode == exits.NOTHING
        assert json.loads(machine.run("status", "--json").stdout)["hub"]["reached"]
        assert machine.run("leave").returncode == exits.DONE
        assert machine.run("inbox").returncode == exits.NOTHING
        assert "joined" not in machine.run("status").stdout
        assert "hub" not in json.loads(machine.run("status", "--json").stdout)
    finally:
        machine.run("stop")


@pytest.mark.parametrize("how", ["accept", "reply", "reject"])
def test_a_person_decides_at_the_terminal_who_may_write_to_her(owner: Hub, machine: Shell, how: str) -> None:
    anna = {"MCP_MAILBOX_ADDRESS": f"anna-{how}"}
    assert owner.run("inbox", **anna).returncode == exits.NOTHING
    machine.run("join", *owner.invite("--principal", f"gustav-{how}"))
    machine.environment["MCP_MAILBOX_ADDRESS"] = f"gustav-{how}"
    try:
        machine.run("send", f"anna-{how}", "-s", "Hello", "-b", "May I?")
        assert f"gustav-{how}" in owner.run("inbox", "--show", "requests", **anna).stdout
        [notice] = json.loads(owner.run("inbox", "--json", **anna).stdout)["messages"]
        more = ("-b", "You may.") if how == "reply" else ()
        done = owner.run(how, notice["id"], *more, **anna)
        assert done.returncode == exits.DONE, done
        inbox = json.loads(owner.run("inbox", "--json", **anna).stdout)["messages"]
        assert [(each["subject"], each.get("state")) for each in inbox] == [
            ("Hello", "rejected" if how == "reject" else "stored")
        ]
        if how == "reply":
            [answer] = json.loads(machine.run("inbox", "--json").stdout)["messages"]
            assert (answer["from"].partition("@")[0], answer["subject"]) == ("anna-reply", "Re: Hello")
        again = machine.run("send", f"anna-{how}", "-b", "Thank you.")
        assert again.returncode == (exits.REFUSED if how == "reject" else exits.DONE)
    finally:
        machine.run("stop")


def test_a_post_office_that_serves_others_is_not_stopped_for_a_hub_that_was_joined(owner: Hub, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    serving = Served(tmp_path / "server").start()
    try:
        done = Hub(serving).run("join", *owner.invite())
        assert (done.returncode, "serve" in done.stdout) == (exits.DONE, True)
        assert serving.serves()
    finally:
        serving.end()


def asked(machine: Shell, tool: str, **arguments: object) -> dict[str, Any]:
    """Return what a tool answers to a host that gives its server no variables, as most do."""
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    with subprocess.Popen(
        [*PROGRAM, "stdio"],
        env=machine.environment,
        cwd=machine.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{INITIALIZE}\n{json.dumps(call)}\n")
        server.stdin.flush()
        said = next(each for each in map(json.loads, server.stdout) if each.get("id") == call["id"])
        server.stdin.close()
    found: dict[str, Any] = said["result"]["structuredContent"]
    return found


def test_agents_of_a_machine_that_joined_are_in_the_space_and_trust_the_authority_that_it_joined_with(
    tmp_path: Path,
) -> None:
    authority, pair = trustme.CA(), tmp_path / "pair.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pair))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "machine").mkdir()
    machine = Shell(tmp_path / "machine")
    (tmp_path / "hub").mkdir()
    served = Served(tmp_path / "hub", "--tls-cert", str(pair)).start()
    try:
        line = Hub(served).run("invite", "--space", "team").stdout.split()
        untrusted = machine.run(*line[1:])
        assert "SSL_CERT_FILE" in untrusted.stderr
        assert machine.run(*line[1:], SSL_CERT_FILE="../ca.pem").returncode == 0
        assert asked(machine, "create_mailbox", name="ann")["address"] == "ann@team"
        wrong = Shell(machine.home)
        wrong.environment["MCP_MAILBOX_SPACE"] = "elsewhere"
        assert "space" in asked(wrong, "create_mailbox", name="ann")["message"]
        # What waits for one hub is nothing for another, nor for somebody else there.
        served.end()
        sent = asked(machine, "send", to="bob", body="a secret", mailbox="ann")
        assert sent.get("accepted") == "outbox", sent
        machine.run("stop")
        assert "--force" in machine.run("leave").stderr
        place = machine.home / ".mcp-mailbox" / "hub.json"
        joined = place.read_text()
        for principal, waits in (("mallory", 0), (kept(machine)["principal"], 1)):
            machine.run("stop")
            place.write_text(json.dumps(json.loads(joined) | {"principal": principal}))
            asked(machine, "list_inbox")
            assert json.loads(machine.run("status", "--json").stdout)["hub"]["outbox"] == waits
    finally:
        machine.run("stop")
        served.end()


def test_a_hub_for_which_mail_waits_is_not_left_whether_a_post_office_can_be_asked_or_not(tmp_path: Path) -> None:
    for name in ("machine", "hub"):
        (tmp_path / name).mkdir()
    machine = Shell(tmp_path / "machine")
    home = machine.home / ".mcp-mailbox"
    served = Served(tmp_path / "hub").start()
    try:
        machine.run("join", *Hub(served).invite())
        asked(machine, "create_mailbox", name="ann")
        served.end()
        asked(machine, "send", to="ann", body="a secret", mailbox="ann")
        machine.run("stop")

        def refused(**more: str) -> str:
            done = machine.run("leave", "--json", **more)
            assert (done.returncode, (home / "hub.json").exists()) == (exits.REFUSED, True), done
            said = json.loads(done.stdout)
            assert "--force" in said["message"]
            return str(said["error"])

        joined = (home / "hub.json").read_text()
        (home / "hub.json").write_text(json.dumps(json.loads(joined) | {"certificates": "/nowhere/ca.pem"}))
        assert machine.run("inbox").returncode == exits.REFUSED, "no post office starts"
        assert refused() == "outbox_waits"
        (home / "hub.json").write_text(joined)
        machine.run("stop")
        lock = rendezvous.hold(str(home))  # a post office that does not answer
        assert lock is not None
        try:
            assert refused() == "outbox_waits"
        finally:
            os.close(lock)
        assert refused(MCP_MAILBOX_HUB="http://127.0.0.1:1", MCP_MAILBOX_TOKEN="mbx_x") == "outbox_waits"
        machine.run("stop")
        [outbox] = home.glob("edge-*.db")
        outbox.write_bytes(b"no database")
        assert refused() == "outbox_unreadable"
        assert machine.run("leave", "--force").returncode == exits.DONE
        assert not (home / "hub.json").exists()
        (home / "edge.db").unlink()  # that of the variables: one alone is shown as well
        machine.run("inbox")  # a post office of this machine's own knows nothing of it
        assert f"{outbox} cannot be read" in machine.run("status").stdout
    finally:
        machine.run("stop")
        served.end()


def test_a_machine_reaches_its_hub_by_the_proxy_that_it_joined_by(owner: Hub, machine: Shell, hub: Served) -> None:
    """The name is known to the proxy alone, and to nobody else on this machine."""
    proxy = Proxy()
    proxy.target = hub.port
    url = f"http://hub.invalid:{hub.port}"
    by = {"http_proxy": f"http://someone:a-secret@127.0.0.1:{proxy.port}"}
    try:
        _, code = owner.invite("--principal", "peter")
        unreached = machine.run("join", "--insecure", url, code)
        assert "cannot be reached" in unreached.stderr
        joined = machine.run("join", "--insecure", "--json", url, code, **by)
        assert joined.returncode == 0, joined.stderr
        assert json.loads(joined.stdout)["proxy"] == f"http://127.0.0.1:{proxy.port}"
        assert "a-secret" not in joined.stdout
        assert kept(machine)["proxy"] == by["http_proxy"]
        assert asked(machine, "create_mailbox", name="peters")["address"] == "peters@default"
        assert json.loads(machine.run("status", "--json").stdout)["hub"]["reached"]
        machine.run("stop")
        other = Shell(machine.home)
        other.environment["MCP_MAILBOX_HUB_PROXY"] = "http://127.0.0.1:1"
        assert asked(other, "list_inbox", mailbox="peters")["unreachable_since"]
        machine.run("stop")
        other.environment["MCP_MAILBOX_HUB_PROXY"] = "socks4://127.0.0.1:1"
        assert "MCP_MAILBOX_HUB_PROXY" in other.run("inbox").stderr
    finally:
        machine.run("stop")
        proxy.end()


def test_a_machine_that_joins_to_sign_signs(owner: Hub, machine: Shell) -> None:
    try:
        assert machine.run("join", "--sign", *owner.invite()).returncode == 0
        asked(machine, "create_mailbox", name="sigrid")
        asked(machine, "send", to="sigrid", body="x", mailbox="sigrid")
        [message] = asked(machine, "wait_for_message", mailbox="sigrid")["messages"]
        assert message["verified"] == "signature"
    finally:
        machine.run("stop")


def test_whoever_is_invited_without_a_name_is_somebody_new(owner: Hub, machine: Shell) -> None:
    machine.run("join", *owner.invite())
    assert re.fullmatch("guest-[0-9a-f]{6}", kept(machine)["principal"])
    done = owner.run("invite", "--principal", "local")
    assert "it reads all of your mail" in done.stderr


def test_a_machine_that_has_joined_joins_no_other_before_it_leaves(owner: Hub, machine: Shell) -> None:
    url, code = owner.invite()
    machine.run("join", url, code)
    token = kept(machine)["token"]
    again = machine.run("join", "http://127.0.0.1:1", code)
    assert (again.returncode, again.stdout) == (3, "")
    assert "`mcp-mailbox leave` takes that back" in again.stderr
    other = owner.invite()
    again = machine.run("join", *other)
    assert (again.returncode, again.stdout) == (3, "")
    assert f"`mcp-mailbox invite --principal {kept(machine)['principal']}`" in again.stderr
    assert kept(machine)["token"] == token
    left = machine.run("leave")
    assert left.returncode == 0
    assert "token revoke t-" in left.stdout
    assert machine.run("leave").returncode == 3
    assert machine.run("join", *other).returncode == 0, "the same line again"
    assert machine.run("leave").returncode == 0
    assert machine.run("join", url, code).returncode == 3, "the code was used"


def test_a_machine_whose_token_has_ended_goes_on_with_another_one(tmp_path: Path) -> None:
    """What waits is sent in the same name, and meanwhile nobody says that all is well."""
    for name in ("machine", "hub"):
        (tmp_path / name).mkdir()
    machine = Shell(tmp_path / "machine")
    machine.environment["MCP_MAILBOX_ADDRESS"] = "bob"
    served = Served(tmp_path / "hub").start()
    owner = Hub(served)
    owner.environment["MCP_MAILBOX_ADDRESS"] = "alice"
    try:
        owner.run("inbox", "--space", "team")
        machine.run("join", *owner.invite("--space", "team", "--token-expires", "3d"))
        assert "this machine's token ends" in machine.run("doctor", "--quick").stdout
        machine.run("inbox")
        principal, former = kept(machine)["principal"], kept(machine)["id"]
        owner.run("token", "revoke", former)
        assert "Kept for the hub" in machine.run("send", "alice", "-b", "waiting").stdout
        # A token for this machine's hosts, as README has them export one, is for no hub.
        machine.environment["MCP_MAILBOX_TOKEN"] = "mbx_x"
        advice = f"`mcp-mailbox invite --principal {principal} --space team`"
        assert advice in machine.run("doctor", "--quick").stdout
        assert "1 waits" in machine.run("stop").stdout
        assert "1 on the way" in machine.run("status").stdout
        assert json.loads(machine.run("status", "--json").stdout)["unsent"]["outbox"] == 1
        assert "1 wait for the hub" in machine.run("doctor", "--quick").stdout
        again = machine.run("join", *owner.invite("--principal", principal, "--space", "team"))
        assert again.returncode == exits.DONE, again.stderr
        assert machine.run("inbox").returncode == exits.NOTHING
        assert "waiting" in owner.run("wait", "--space", "team", "--timeout", "20").stdout
        assert "unsent" not in json.loads(machine.run("status", "--json").stdout)
        machine.run("stop")
    finally:
        served.end()


def test_a_lost_answer_burns_no_code(owner: Hub, machine: Shell, thief: Thief) -> None:
    _, code = owner.invite("--principal", "unlucky")
    url = f"http://127.0.0.1:{thief.port}"
    thief.honest = False
    lost = machine.run("join", url, code)
    assert lost.returncode == 4
    assert "may be typed again" in lost.stderr
    [row] = owner.invited("unlucky")
    thief.honest = True
    assert Shell(machine.home).run("join", url, code, MCP_MAILBOX_HOME=str(machine.home / "b")).returncode == 3, (
        "another machine has no token for it"
    )
    assert machine.run("join", url, code).returncode == 0
    assert kept(machine)["id"] == row["token"]
    assert not any(kept(machine)["token"].encode() in asked for asked in thief.seen)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://hub.example.org", CODE), "anybody on the way could read"),
        (("http://192.0.2.1:8765", CODE), "anybody on the way could read"),
        (("ftp://hub.example.org", CODE), "no hub's address"),
        (("hub.example.org", CODE), "no hub's address"),
        (("https://user:secret@hub.example.org", CODE), "no hub's address"),
        (("https://hub.example.org?x=y", CODE), "no hub's address"),
        (("https://[::1", CODE), "no hub's address"),
        (("http://127.0.0.1:1/a b", CODE), "no hub's address"),
        (("http://127.0.0.1:1", CODE[:-1] + "1"), "mistyped"),
        (("http://127.0.0.1:1", "0000-0000"), "28 is right"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    machine: Shell, arguments: tuple[str, ...], said: str
) -> None:
    done = machine.run("join", *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert said in done.stderr
    assert not (machine.home / ".mcp-mailbox" / "hub.json").exists()


def test_a_hub_that_is_not_there_or_is_none_is_told(machine: Shell, owner: Hub, hub: Served) -> None:
    gone = machine.run("join", "http://127.0.0.1:1", CODE, "--json")
    assert (gone.returncode, json.loads(gone.stdout)["error"]) == (4, "unreachable")
    no_hub = machine.run("join", f"{hub.url.removesuffix('/mcp')}/nothing", CODE)
    assert no_hub.returncode == 3
    refused = machine.run("join", hub.url, CODE)
    assert refused.returncode == 3
    assert "The hub says: This code is not good here" in refused.stderr
    assert list((machine.home / ".mcp-mailbox").iterdir()) == [], "what it made for that is gone"
    del owner


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", 3, "not as a hub does"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n", 3, "not as a hub does"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{", 4, "may be typed again"),
        (b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{", 4, "may be typed again"),
    ],
    ids=["no HTTP", "endless headers", "half an answer", "half an error"],
)
def test_what_does_not_answer_in_good_http_is_told(machine: Shell, answer: bytes, code: int, said: str) -> None:
    with speaking(answer) as port:
        done = machine.run("join", f"http://127.0.0.1:{port}", CODE)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_sent_to_where_a_hub_sends_one_on_to(machine: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        where = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/join"
        with speaking(f"HTTP/1.1 307 On\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n".encode()) as port:
            done = machine.run("join", f"http://127.0.0.1:{port}", CODE)
        assert (done.returncode, "answers with 307" in done.stderr) == (3, True)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_an_invitation_is_revoked_by_its_id_and_a_redeemed_one_is_not(owner: Hub, machine: Shell) -> None:
    url, code = owner.invite("--expires", "1h", "--principal", "rev")
    [made] = owner.invited("rev")
    assert made["expires_at"] - made["created_at"] == 3600_000
    assert code not in json.dumps(made)
    done = owner.run("invite", "--revoke", made["id"])
    assert "is revoked" in done.stderr
    assert machine.run("join", url, code).returncode == 3
    machine.run("join", *owner.invite("--principal", "used"))
    [used] = [
        each for each in json.loads(owner.run("invite", "--list", "--json").stdout) if each["principal"] == "used"
    ]
    for id_, said in ((used["id"], f"token revoke {used['token']}"), ("i-nobodys", "invite --list")):
        refused = owner.run("invite", "--revoke", id_)
        assert (refused.returncode, said in refused.stderr) == (3, True)


def test_a_hub_that_serves_no_http_says_so(machine: Shell) -> None:
    done = machine.run("invite", "--json")
    made = json.loads(done.stdout)
    assert made["line"] == f"mcp-mailbox join https://THIS-HUB {made['code']}"
    machine.run("stop")
