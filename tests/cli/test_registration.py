"""The lines with which `status` registers a server over HTTP: each works where somebody types it."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import trustme

from tests.conftest import DEADLINE
from tests.fronts.world import Served


@pytest.fixture
def status(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return what shows the status of a server that was started with these arguments."""
    homes: list[Served] = []

    def show(*arguments: str) -> str:
        homes.append(Served(tmp_path, *arguments).start())
        command = [sys.executable, "-P", "-m", "mcp_mailbox", "status"]
        done = subprocess.run(
            command, env=homes[-1].environment(), capture_output=True, text=True, timeout=DEADLINE, check=True
        )
        return done.stdout.replace(f":{homes[-1].port}", ":PORT")

    yield show
    for home in homes:
        home.end()


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    file = tmp_path / "server.pem"
    trustme.CA().issue_cert("mail.example.org").private_key_and_cert_chain_pem.write_to_path(file)
    return str(file)


def lines(shown: str, program: str) -> list[str]:
    return [line.strip() for line in shown.splitlines() if line.strip().startswith(program) and "http" in line]


def test_on_this_machine_every_host_that_has_a_command_gets_its_line(status: Callable[..., str]) -> None:
    shown = status()
    assert lines(shown, "claude") == [
        (
            "claude mcp add -s user -t http mailbox http://127.0.0.1:PORT/mcp"
            " --header 'Authorization: Bearer ${MCP_MAILBOX_TOKEN}'"
            " --header 'Mailbox-Address: ${MCP_MAILBOX_ADDRESS:-}'"
        )
    ]
    assert lines(shown, "codex") == [
        "codex mcp add mailbox --url http://127.0.0.1:PORT/mcp --bearer-token-env-var MCP_MAILBOX_TOKEN"
    ]
    assert lines(shown, "gemini") == [
        "gemini mcp add -s user -t http -H 'Authorization: Bearer $MCP_MAILBOX_TOKEN' mailbox http://127.0.0.1:PORT/mcp"
    ]
    assert "claude mcp remove -s user mailbox" in shown, "two of one name cannot be"


def test_without_tokens_claude_still_says_whose_mailbox_it_is(status: Callable[..., str]) -> None:
    shown = status("--no-auth")
    assert lines(shown, "claude") == [
        (
            "claude mcp add -s user -t http mailbox http://127.0.0.1:PORT/mcp"
            " --header 'Mailbox-Address: ${MCP_MAILBOX_ADDRESS:-}'"
        )
    ]
    assert lines(shown, "codex") == ["codex mcp add mailbox --url http://127.0.0.1:PORT/mcp"]
    assert lines(shown, "gemini") == ["gemini mcp add -s user -t http mailbox http://127.0.0.1:PORT/mcp"]
    assert "MCP_MAILBOX_TOKEN" not in shown


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("mail.example.org", "https://mail.example.org:PORT/mcp"),
        ("mail.example.org:8443", "https://mail.example.org:8443/mcp"),
    ],
)
def test_a_server_on_every_address_is_registered_by_the_first_name_that_it_answers_to(
    status: Callable[..., str], certificate: str, name: str, url: str
) -> None:
    shown = status(
        "--host", "0.0.0.0", "--tls-cert", certificate, "--allow-host", name, "--allow-host", "other.example"
    )
    for program in ("claude", "codex", "gemini"):
        assert f" {url}" in lines(shown, program)[0]


def test_a_server_behind_a_proxy_is_registered_as_the_proxy_is_called(status: Callable[..., str]) -> None:
    shown = status("--behind-proxy", "--allow-host", "mail.example.org")
    for program in ("claude", "codex", "gemini"):
        assert " https://mail.example.org/mcp" in lines(shown, program)[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_on_every_address_without_a_name_says_what_is_missing(
    status: Callable[..., str], certificate: str, host: str
) -> None:
    shown = status("--host", host, "--tls-cert", certificate)
    assert lines(shown, "claude") == lines(shown, "codex") == lines(shown, "gemini") == []
    assert "--allow-host NAME" in shown


def test_an_address_that_a_shell_would_expand_is_quoted(status: Callable[..., str]) -> None:
    assert " 'http://[::1]:PORT/mcp'" in lines(status("--host", "::1"), "codex")[0]


def test_under_uvx_it_is_uvx_that_hosts_start_with_where_the_package_came_from(tmp_path: Path) -> None:
    # uvx runs a program from an environment in uv's cache, and says where uv is.
    cached = tmp_path / "archive-v0" / "x"
    venv.create(cached, symlinks=True)
    packages = next((cached / "lib").glob("python3*/site-packages"))
    (packages / "ours.pth").write_text("\n".join(each for each in sys.path if each))
    asked = "from mcp_mailbox.fronts.cli import registration; import json; print(json.dumps(registration.command()))"
    done = subprocess.run(
        [cached / "bin/python", "-c", asked],
        env={"UV": "/opt/uv/bin/uv"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    origin = json.loads(metadata.distribution("mcp-mailbox").read_text("direct_url.json") or "{}")
    source = ["--from", origin["url"]] if origin else []
    assert json.loads(done.stdout) == ["/opt/uv/bin/uvx", *source, "mcp-mailbox", "stdio"]
