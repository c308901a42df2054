"""What `serve` may be told, what it refuses, and what it says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from mcp_mailbox import config
from mcp_mailbox.budgets import Limits
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.cli import commands
from tests.conftest import DEADLINE
from tests.fronts.world import Raw, Served
from tests.http.caller import Caller

CANNOT_OPEN = """
from mcp_mailbox.errors import Code, Refusal
from mcp_mailbox.fronts.http import listener
def fail(*_):
    raise Refusal(Code.STORE_FAILED, "Planted.", "Mend it.")
listener.listening = fail
from mcp_mailbox.__main__ import main
raise SystemExit(main())
"""
"""A server that finds out that it cannot open when it has taken the place of the one before."""


def settings(*arguments: str) -> config.Serving:
    return config.serving(**vars(commands.parse("serve", arguments)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "Without TLS anybody on the way to 0.0.0.0"),
        (["--host", "::"], "Without TLS"),
        (["--host", "192.0.2.1"], "Without TLS"),
        (["--host", "mail.example.org"], "Without TLS"),
        (["--host", "0.0.0.0", "--behind-proxy", "--no-auth"], "Without tokens anybody who reaches 0.0.0.0"),
        (["--host", "0.0.0.0", "--tls-cert", "c", "--no-auth"], "Without tokens"),
        (["--port", "65536"], "65536 is no port"),
        (["--port", "-1"], "-1 is no port"),
        (["--tls-key", "k"], "--tls-key was given alone"),
        (["--allow-host", "https://mail.example.org/"], "--allow-host 'https://mail.example.org/'"),
        (["--allow-host", "mail.example.org/mcp"], "--allow-host 'mail.example.org/mcp'"),
        (["--allow-host", "*.example.org"], "--allow-host '*.example.org'"),
        (["--allow-host", "büro.example"], "--allow-host 'b\\xfcro.example'"),
        (["--allow-host", "::1"], "--allow-host '::1'"),
        (["--allow-host", "mail.example.org:http"], "--allow-host 'mail.example.org:http'"),
        (["--allow-host", ""], "--allow-host ''"),
        (["--allow-origin", "example.org"], "--allow-origin 'example.org'"),
        (["--allow-origin", "*"], "--allow-origin '*'"),
        (["--allow-origin", "null"], "--allow-origin 'null'"),
        (["--allow-origin", "https://"], "--allow-origin 'https://'"),
        (["--allow-origin", "https://example.org/app"], "--allow-origin 'https://example.org/app'"),
        (["--allow-origin", "https://example.org:x"], "--allow-origin 'https://example.org:x'"),
        (["--allow-origin", "https://me@example.org"], "--allow-origin 'https://me@example.org'"),
    ],
)
def test_what_would_let_strangers_in_or_read_along_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        settings(*arguments)
    assert refusal.value.problem.startswith(said)
    assert refusal.value.hint


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--host", "localhost"],
        ["--host", "127.8.8.8"],
        ["--host", "::1"],
        ["--host", "[::1]"],
        ["--no-auth"],
        ["--host", "0.0.0.0", "--behind-proxy"],
        ["--host", "0.0.0.0", "--tls-cert", "c"],
    ],
)
def test_what_is_safe_is_served(arguments: list[str]) -> None:
    assert settings(*arguments).tokens == ("--no-auth" not in arguments)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://page.example/", "https://page.example"),
        ("HTTPS://Page.example", "https://page.example"),
        ("https://page.example:443", "https://page.example"),
        ("http://page.example:80", "http://page.example"),
        ("https://page.example:8443", "https://page.example:8443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("vscode-webview://0abc", "vscode-webview://0abc"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(given: str, meant: str) -> None:
    assert settings("--allow-origin", given).origins == {meant}


def test_an_address_that_is_taken_is_told_and_leaves_the_running_post_office_alone(
    new_home: Callable[..., Served],
) -> None:
    home = new_home()
    host = home.host()
    host.ask("ping")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        ended = serve(home, "--port", str(taken.getsockname()[1]))
    assert ended.returncode == 3
    assert "Choose another --host or --port." in ended.stderr
    host.ask("ping")
    host.end()


@pytest.mark.parametrize("missing", ["certificate", "token"])
def test_files_that_cannot_be_used_are_told_and_leave_the_running_post_office_alone(
    new_home: Callable[..., Served], missing: str
) -> None:
    home = new_home()
    with agent(home) as alice:
        office = home.status()["pid"]
        if missing == "token":
            (home.path / "token").mkdir()
        ended = serve(home, "--port", "0", *(["--tls-cert", "/nonexistent.pem"] if missing == "certificate" else []))
        assert ended.returncode == 3
        assert ended.stderr.startswith("mcp-mailbox: ")
        assert ("/nonexistent.pem" if missing == "certificate" else str(home.path / "token")) in ended.stderr
        assert ended.stderr.count("\n") == 1
        alice.call("list_inbox")
        assert home.status()["pid"] == office


def test_a_serve_that_cannot_open_says_why_and_the_hosts_go_on_without_it(new_home: Callable[..., Served]) -> None:
    home = new_home()
    with agent(home) as alice:
        office = home.status()["pid"]
        ended = serve(home, "--port", "0", program=CANNOT_OPEN)
        alice.call("list_inbox")
        assert home.status()["pid"] != office, "it had given its place to the one that could not open"
        assert not home.status()["serves"]
        assert ended.returncode == 4
        assert ended.stderr.splitlines()[-1] == "mcp-mailbox: Planted. Mend it."
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["MCP_MAILBOX_LEASE", "MCP_MAILBOX_IDLE"])
@pytest.mark.parametrize("value", ["nonsense", "0", "-1", "nan"])
def test_a_setting_that_cannot_be_is_told_and_leaves_the_running_post_office_alone(
    new_home: Callable[..., Served], name: str, value: str
) -> None:
    home = new_home()
    with agent(home) as alice:
        office = home.status()["pid"]
        ended = serve(home, "--port", "0", **{name: value})
        assert ended.returncode == 3
        assert ended.stderr.startswith(f"mcp-mailbox: {name} is '{value}'. Set it to seconds")
        assert ended.stderr.count("\n") == 1
        alice.call("list_inbox")
        assert home.status()["pid"] == office


@pytest.mark.parametrize("name", ["MCP_MAILBOX_THREAD_BUDGET", "MCP_MAILBOX_PAIR_BUDGET", "MCP_MAILBOX_HOPS"])
@pytest.mark.parametrize("value", ["nonsense", "-1", "1.5", "1000001", "9" * 5000])
def test_a_budget_that_cannot_be_is_told(name: str, value: str) -> None:
    with pytest.raises(Refusal) as refusal:
        config.office_settings({name: value})
    assert refusal.value.code is Code.BAD_ARGUMENT
    assert refusal.value.problem.startswith(f"{name} is '{value[:20]}'")
    assert "0 for none" in refusal.value.hint


def test_budgets_are_read_from_the_environment() -> None:
    names = ("MCP_MAILBOX_THREAD_BUDGET", "MCP_MAILBOX_PAIR_BUDGET", "MCP_MAILBOX_HOPS")
    assert config.office_settings({}).limits == Limits()
    assert config.office_settings(dict(zip(names, ("7", "0", "9"), strict=True))).limits == Limits(7, 0, 9)


@pytest.mark.parametrize("name", ["MCP_MAILBOX_LEASE", "MCP_MAILBOX_IDLE"])
def test_a_setting_that_cannot_be_is_told_to_a_host(new_home: Callable[..., Served], name: str) -> None:
    host = new_home(**{name: "abc"}).host()
    try:
        error = host.ask("ping")
        assert error["data"] == {"code": "bad_argument"}
        assert f"{name} is 'abc'. Set it to seconds" in error["message"]
    finally:
        host.end()


def test_a_home_that_is_a_file_is_told_in_one_sentence(new_home: Callable[..., Served]) -> None:
    home = new_home()
    file = home.directory / "file"
    file.touch()
    for arguments in ((), ("--no-auth",)):
        ended = serve(home, "--port", "0", *arguments, MCP_MAILBOX_HOME=str(file))
        assert (ended.returncode, ended.stderr.count("\n")) == (4, 1)
        assert ended.stderr.startswith(f"mcp-mailbox: {file}: Not a directory. Set MCP_MAILBOX_HOME")


@contextmanager
def agent(home: Served) -> Iterator[Raw]:
    """Start an agent on stdio, with a mailbox."""
    host = home.host()
    try:
        raw = Raw(host)
        raw.greet()
        raw.call("create_mailbox", name="alice")
        yield raw
    finally:
        host.end()


def test_a_second_serve_of_the_same_store_is_refused(new_home: Callable[..., Served]) -> None:
    home = new_home().start()
    ended = serve(home, "--port", "0")
    assert ended.returncode == 3
    assert "Another `mcp-mailbox serve` has this store." in ended.stderr
    assert Caller(home.port, home.token).alone("tools/list").status == 200


def test_tls_files_that_cannot_be_used_are_told(new_home: Callable[..., Served], tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nonsense")
    for file in ("bad.pem", "missing.pem"):
        ended = serve(new_home(), "--port", "0", "--tls-cert", str(tmp_path / file))
        assert ended.returncode == 3
        assert "TLS files cannot be used" in ended.stderr


def test_other_machines_are_served_over_tls(new_home: Callable[..., Served], tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("mail.example.org").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = ("--host", "0.0.0.0", "--tls-cert", str(tmp_path / "server.pem"), "--allow-host", "mail.example.org")
    home = new_home(*arguments).start()
    assert home.url.startswith("https://0.0.0.0:")
    caller = Caller(home.port, home.token, host=f"mail.example.org:{home.port}")
    message = caller.message("tools/call", name="create_mailbox", arguments={"name": "alice"})
    with (
        socket.create_connection(("127.0.0.1", home.port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname="mail.example.org") as line,
    ):
        line.sendall(caller.request(body=message, **caller.modern(message)))
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    with caller.line() as plain_line, suppress(ConnectionError):
        plain_line.write(caller.request(body=message, **caller.modern(message)))
        assert plain_line.closed(), "nothing is said without TLS"


def test_without_tokens_everybody_on_this_machine_is_its_user(new_home: Callable[..., Served]) -> None:
    home = new_home("--no-auth").start()
    assert not (home.path / "token").exists()
    caller = Caller(home.port, None)
    assert caller.call("create_mailbox", name="alice")["created"]
    assert caller.ask(body={}, host="evil.example").status == 421


def test_other_names_and_origins_are_served_when_they_are_given(new_home: Callable[..., Served]) -> None:
    home = new_home("--allow-host", "Mail.example.org", "--allow-origin", "https://page.example/").start()
    for host in ("mail.example.org", "mail.example.org:443"):
        caller = Caller(home.port, home.token, host=host)
        assert caller.alone("tools/list").status == 200
        assert Caller(home.port, home.token, host=host, origin="https://page.example").alone("tools/list").status == 200
    assert Caller(home.port, home.token, host="mail.example.org:1").alone("tools/list").status == 421


def test_the_token_file_is_its_owners_alone_and_stays_good(new_home: Callable[..., Served]) -> None:
    home = new_home().start()
    assert (home.path / "token").stat().st_mode & 0o777 == 0o600
    first = home.token
    assert first.startswith("mbx_")
    assert len(first) >= len("mbx_") + 43
    home.end()
    home.start()
    assert home.token == first
    assert Caller(home.port, first).alone("tools/list").status == 200
    assert first.encode() not in (home.path / "mail.db").read_bytes() + (home.path / "mail.db-wal").read_bytes()
    assert first not in home.log()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("mbx_nonsense")])
def test_a_token_file_that_is_no_good_is_made_anew(
    new_home: Callable[..., Served], spoil: Callable[[Path], object]
) -> None:
    home = new_home().start()
    first = home.token
    home.end()
    spoil(home.path / "token")
    home.start()
    assert home.token not in {first, "mbx_nonsense"}
    assert Caller(home.port, home.token).alone("tools/list").status == 200


def serve(home: Served, *arguments: str, program: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    run = ["-m", "mcp_mailbox"] if program is None else ["-c", program]
    command = [sys.executable, "-P", *run, "serve", *arguments]
    return subprocess.run(
        command, env=home.environment(**env), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
