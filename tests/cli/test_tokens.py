"""`mcp-mailbox token`, as a person and a script use it."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_commands import Shell, converse, lasting_shell, shell

__all__ = ["lasting_shell", "shell"]


def made(shell: Shell, *arguments: str) -> str:
    done = shell.run("token", "create", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(shell: Shell, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(shell.run("token", "list", "--json", *arguments).stdout)
    return found


def test_a_new_token_is_all_that_stands_on_stdout_and_is_never_shown_again(shell: Shell) -> None:
    token = made(shell, "ci", "--principal", "carol", "--scope", "read,send", "--expires", "30d", "--mailbox", "carol")
    assert token.startswith("mbx_")
    assert token == token.strip() + "\n"
    [row] = listed(shell)
    assert (row["name"], row["principal"], row["scopes"], row["mailbox"]) == ("ci", "carol", ["read", "send"], "carol")
    assert token.strip() not in shell.run("token", "list").stdout + json.dumps(row)
    for file in (shell.home / ".mcp-mailbox").iterdir():
        if file.is_file():
            assert token.strip().encode() not in file.read_bytes(), file


def test_a_token_is_rotated_and_revoked_by_its_id(shell: Shell) -> None:
    first = made(shell)
    [row] = listed(shell)
    assert (row["name"], row["principal"], row["expires_at"]) == ("token", "local", None)
    rotated = shell.run("token", "rotate", str(row["id"]))
    assert rotated.stdout.startswith("mbx_")
    assert rotated.stdout != first
    assert shell.run("token", "revoke", str(row["id"])).returncode == 0
    assert listed(shell) == []
    assert [each["id"] for each in listed(shell, "--all")] == [row["id"]]
    assert "No tokens." in shell.run("token", "list").stdout
    again = shell.run("token", "rotate", str(row["id"]))
    assert (again.returncode, again.stdout) == (3, "")


def test_the_list_shows_the_space(shell: Shell) -> None:
    made(shell, "ci", "--space", "team-7")
    assert "SPACE" in shell.run("token", "list").stdout.splitlines()[0]
    assert "team-7" in shell.run("token", "list").stdout


def test_who_ends_a_token_by_its_name_is_told_the_id(shell: Shell) -> None:
    made(shell, "ci")
    [row] = listed(shell)
    for verb in ("revoke", "rotate"):
        done = shell.run("token", verb, "ci")
        assert (done.returncode, done.stdout) == (3, "")
        assert f"'ci' is the name of {row['id']}: give that." in done.stderr
    assert len(listed(shell)) == 1
    made(shell, "ci")
    ids = " and ".join(str(each["id"]) for each in listed(shell))
    assert f"'ci' is the name of {ids}: give one of them." in shell.run("token", "revoke", "ci").stderr


def test_a_token_for_a_mailbox_of_somebody_else_is_made_with_a_warning(shell: Shell) -> None:
    calls: list[tuple[str, dict[str, object]]] = [("create_mailbox", {"name": "alice"})]
    converse(shell, str(shell.home / ".mcp-mailbox"), calls)
    done = shell.run("token", "create", "ci", "--principal", "ci", "--mailbox", "alice")
    assert (done.returncode, done.stdout[:4]) == (0, "mbx_")
    assert "Warning: 'alice' belongs to another principal, local" in done.stderr
    for arguments in (("--mailbox", "alice"), ("--principal", "ci", "--mailbox", "new")):
        assert "Warning" not in shell.run("token", "create", "ci", *arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "--expires", "soon"], 2, "write 12h, 30d or 1y"),
        (["create", "--expires", "0d"], 2, "write 12h, 30d or 1y"),
        (["create", "--scope", "read,fly"], 2, "is none of read, send, create"),
        (["create", "--scope", ""], 2, "is none of read, send, create"),
        (["create", "x" * 65], 3, "1 to 64 printable characters"),
        (["create", "a\nb"], 3, "1 to 64 printable characters"),
        (["create", "--space", "a b"], 3, "A space has letters"),
        (["create", "--mailbox", "a@b@c"], 3, "An address is name@space."),
        (["revoke", "t-00000000"], 3, "mcp-mailbox token list"),
        (["rotate", "../x"], 3, "mcp-mailbox token list"),
        ([], 2, "required: verb"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_do(
    lasting_shell: Shell, arguments: list[str], code: int, said: str
) -> None:
    done = lasting_shell.run("token", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
