"""What happens to a file on the disk: links, permissions, others who write, broken ones, and what is undone later."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mcp_mailbox.setup import disk
from mcp_mailbox.setup.formats import Json
from mcp_mailbox.setup.host import Host, Scope
from mcp_mailbox.setup.hosts import HOSTS
from mcp_mailbox.setup.jsonc import Dialect
from mcp_mailbox.setup.plan import Action
from mcp_mailbox.setup.record import Book
from mcp_mailbox.setup.transaction import apply
from mcp_mailbox.setup.trouble import Unfit
from mcp_mailbox.setup.undo import Undone
from tests.setup.desk import OVER_HTTP, STDIO, Desk, ended, moved, text_for

CLAUDE, CODEX, OPENCODE = HOSTS["claude"], HOSTS["codex"], HOSTS["opencode"]
each_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


@each_host
@pytest.mark.parametrize("broken", ["{", "x = = 1", "[]]", "{]", "\x00"])
def test_a_broken_file_is_refused_untouched_and_the_lines_are_shown(desk: Desk, host: Host, broken: str) -> None:
    desk.write(host, broken)
    before = desk.tree()
    change = desk.plan(host)
    assert change.action is Action.REFUSE
    assert change.refused
    assert host.format.read(change.snippet), "what is shown can be put into a file"
    assert STDIO.command[0] in change.snippet
    assert desk.tree() == before


@each_host
@pytest.mark.parametrize("name", [None, "0"])
def test_a_list_where_servers_belong_is_refused(desk: Desk, host: Host, name: str | None) -> None:
    key = host.servers[0]
    desk.write(host, f"{key} = []\n" if host.format.name == "TOML" else f'{{"{key}": []}}')
    assert desk.plan(host, name=name).action is Action.REFUSE


@pytest.mark.parametrize("inputs", ["3", '{"a": 1}', '"x"'])
def test_what_stands_where_a_list_belongs_is_not_replaced(desk: Desk, inputs: str) -> None:
    desk.write(HOSTS["vscode"], f'{{"inputs": {inputs}}}')
    assert desk.plan(HOSTS["vscode"], server=OVER_HTTP).action is Action.REFUSE


@pytest.mark.parametrize("data", [b"\xff\xfe{\x00}\x00", b'{"a": "\xe4"}'])
def test_what_is_no_utf_8_is_refused(desk: Desk, data: bytes) -> None:
    desk.write(CLAUDE, "").write_bytes(data)
    assert "UTF-8" in str(desk.plan(CLAUDE).refused)


def test_what_a_host_does_not_read_is_broken_for_it(desk: Desk) -> None:
    desk.write(CLAUDE, '{"a": 1} // c')
    assert desk.plan(CLAUDE).action is Action.REFUSE
    desk.write(HOSTS["gemini"], '{"a": 1,} // c')
    assert "line 1, column 9" in str(desk.plan(HOSTS["gemini"]).refused)


@each_host
def test_a_mark_of_the_byte_order_stays(desk: Desk, host: Host) -> None:
    path = desk.write(host, "\ufeff" + ended(host))
    desk.set_up(host)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    path.write_bytes(path.read_bytes() + b"\n\n")
    desk.undo()
    assert path.read_bytes().decode() == "\ufeff" + ended(host) + "\n\n"


def test_a_link_stays_a_link_and_its_target_is_edited(desk: Desk) -> None:
    dotfiles = desk.root / "dotfiles"
    dotfiles.mkdir()
    target = dotfiles / "codex.toml"
    target.write_text(text_for(CODEX))
    path = desk.file(CODEX)
    path.parent.mkdir()
    path.symlink_to(target)
    desk.set_up(CODEX)
    assert path.is_symlink()
    assert "mailbox" in target.read_text()
    desk.undo()
    assert path.is_symlink()
    assert target.read_bytes().decode() == text_for(CODEX)
    assert [each.name for each in dotfiles.iterdir()] == ["codex.toml"]


def test_a_link_to_what_is_not_there_yet_leads_to_the_new_file(desk: Desk) -> None:
    path = desk.file(CLAUDE)
    path.symlink_to(desk.root / "later.json")
    desk.set_up(CLAUDE)
    assert path.is_symlink()
    assert desk.undo() == [Undone.REMOVED]
    assert path.is_symlink()
    assert not (desk.root / "later.json").exists()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_permissions_and_owner_stay(desk: Desk, mode: int) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    path.chmod(mode)
    if os.getuid() == 0:
        os.chown(path, 12345, 54321)
    owner = path.stat().st_uid, path.stat().st_gid
    for step in (desk.set_up, lambda _: desk.undo()):
        step(CODEX)
        found = path.stat()
        assert (found.st_mode & 0o777, (found.st_uid, found.st_gid)) == (mode, owner)


READER = 12345
"""A user who may read a file by its access list alone."""


def _give_access_list(path: Path, of: str = "access") -> bytes:
    """Let one more user read; the file's group may nothing, though the mode says `r` where its bits were."""
    if sys.platform != "linux":
        pytest.skip("access lists are set by an attribute on Linux alone")
    entries = [(1, 6, -1), (2, 4, READER), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each[:2], each[2] & 0xFFFFFFFF) for each in entries)
    try:
        os.setxattr(path, f"system.posix_acl_{of}", listed)
        os.setxattr(path, "user.note", b"mine")
    except OSError as error:
        pytest.skip(f"this file system has no access lists: {error}")
    return listed


@pytest.mark.parametrize("changed_since", [False, True])
def test_an_access_list_and_attributes_stay_also_when_undone(desk: Desk, changed_since: bool) -> None:
    path = desk.write(CODEX, ended(CODEX))
    listed = _give_access_list(path)
    assert path.stat().st_mode & 0o777 == 0o640
    for step in (lambda: desk.set_up(CODEX), desk.undo):
        step()
        assert os.getxattr(path, "system.posix_acl_access") == listed
        assert os.getxattr(path, "user.note") == b"mine"
        assert path.stat().st_mode & 0o777 == 0o640
        if changed_since:
            path.write_bytes(path.read_bytes() + b"\r\n")


def test_a_backup_of_a_file_with_an_access_list_is_its_owners_alone(desk: Desk) -> None:
    _give_access_list(desk.write(CODEX, text_for(CODEX)))
    (desk.root / "store").mkdir(mode=0o700)
    _give_access_list(desk.root / "store", "default")
    desk.set_up(CODEX)
    (backup,) = (desk.root / "store/setup-backups").iterdir()
    assert backup.stat().st_mode & 0o777 == 0o600, "whoever its list may name, the mask lets nobody in"


def test_no_access_list_comes_from_the_directory_to_a_file_that_had_none(desk: Desk) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    path.chmod(0o644)
    _give_access_list(path.parent, "default")
    for step in (lambda: desk.set_up(CODEX), desk.undo):
        step()
        assert os.listxattr(path) == []
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_whose_attributes_cannot_be_kept_is_refused_untouched(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    listed = _give_access_list(path)
    planned = desk.plan(CODEX)
    (desk.root / "store").mkdir(mode=0o700)
    before = desk.tree()

    def fail(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patched:
        patched.setattr(os, "setxattr", fail)
        with pytest.raises(Unfit, match=r"access list .* cannot be kept .*not supported"):
            apply(planned, desk.book)
    assert desk.tree() == before
    assert os.getxattr(path, "system.posix_acl_access") == listed
    assert desk.book.records() == []


def test_a_file_whose_access_list_changed_since_it_was_looked_at_is_left_alone(desk: Desk) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    path.chmod(0o640)
    planned = desk.plan(CODEX)
    (desk.root / "store").mkdir(mode=0o700)
    _give_access_list(path)
    with pytest.raises(Unfit, match="meanwhile"):
        apply(planned, desk.book)


def test_a_new_file_of_a_user_is_the_users_alone(desk: Desk) -> None:
    desk.set_up(CODEX)
    assert desk.file(CODEX).stat().st_mode & 0o777 == 0o600
    desk.set_up(CLAUDE, scope=Scope.PROJECT)
    mask = os.umask(0)
    os.umask(mask)
    assert desk.file(CLAUDE, Scope.PROJECT).stat().st_mode & 0o777 == 0o666 & ~mask
    desk.set_up(HOSTS["cursor"], scope=Scope.PROJECT)
    assert (desk.project / ".cursor").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (desk.home / ".codex").stat().st_mode & 0o777 == 0o700


def test_records_and_backups_are_their_owners_alone(desk: Desk) -> None:
    desk.write(CLAUDE, '{"oauth": "secret"}').chmod(0o644)
    desk.set_up(CLAUDE)
    files = [each for each in (desk.root / "store").rglob("*") if each.is_file()]
    assert len(files) == 2
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    backup = next(each for each in files if each.suffix != ".json")
    assert backup.read_text() == '{"oauth": "secret"}'
    assert backup.name.startswith("claude.json.20")
    desk.undo()
    assert not [each for each in (desk.root / "store").rglob("*") if each.is_file()]


def test_a_file_that_may_not_be_written_is_refused(desk: Desk) -> None:
    desk.write(CODEX, "").chmod(0o444)
    assert "read-only" in str(desk.plan(CODEX).refused)


def test_a_file_with_another_name_is_refused(desk: Desk) -> None:
    path = desk.write(CODEX, "")
    (desk.root / "other").hardlink_to(path)
    assert "hard link" in str(desk.plan(CODEX).refused)


def test_a_directory_of_the_name_is_refused(desk: Desk) -> None:
    desk.file(CODEX).mkdir(parents=True)
    assert "no file" in str(desk.plan(CODEX).refused)


def test_links_in_a_circle_are_refused(desk: Desk) -> None:
    desk.file(CLAUDE).symlink_to(desk.file(CLAUDE))
    assert desk.plan(CLAUDE).action is Action.REFUSE


# -- others who write


@pytest.mark.parametrize("change", ["text", "mode", "gone", "made"])
def test_a_file_that_changed_since_it_was_looked_at_is_left_alone(desk: Desk, change: str) -> None:
    path = desk.file(OPENCODE)
    if change != "made":
        desk.write(OPENCODE, "{}")
    planned = desk.plan(OPENCODE)
    if change == "gone":
        path.unlink()
    elif change == "mode":
        path.chmod(0o640)
    else:
        desk.write(OPENCODE, '{"theme": "x"}')
    before = desk.tree()
    (desk.root / "store").mkdir(mode=0o700)
    with pytest.raises(Unfit, match="meanwhile"):
        apply(planned, desk.book)
    assert desk.tree() == before
    assert desk.book.records() == []


def test_claude_codes_lock_is_waited_for(desk: Desk) -> None:
    path = desk.write(CLAUDE, "{}")
    lock = path.with_name(".claude.json.lock")
    lock.mkdir()
    written_before: list[bool] = []

    def release() -> None:
        written_before.append("mailbox" in path.read_text())
        lock.rmdir()

    timer = threading.Timer(0.2, release)
    timer.start()
    desk.set_up(CLAUDE)
    timer.join()
    assert written_before == [False]
    assert "mailbox" in path.read_text()
    assert not lock.exists()


def test_a_lock_that_its_holder_has_left_is_taken_over(desk: Desk) -> None:
    path = desk.write(CLAUDE, "{}")
    lock = path.with_name(".claude.json.lock")
    lock.mkdir()
    os.utime(lock, (1, 1))
    desk.set_up(CLAUDE)
    assert not lock.exists()


class Rewriting(Json):
    """A host's file that somebody writes right after us: the first time it is read again, it is another one."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(Dialect.JSON)
        self._path, self._text = path, text

    def read(self, text: str) -> dict[str, object]:
        if "mailbox" in text and self._text:
            data, self._text = self._text, ""
            self._path.write_text(data)
            text = data
        return super().read(text)


def _rewritten(desk: Desk, text: str) -> tuple[Host, Path]:
    path = desk.write(CURSOR, '{"a": 1}')
    return dataclasses.replace(CURSOR, format=Rewriting(path, text)), path


CURSOR = HOSTS["cursor"]


def test_what_cannot_be_read_again_is_rolled_back(desk: Desk) -> None:
    host, path = _rewritten(desk, '{"half of what')
    with pytest.raises(Unfit, match="as it was"):
        desk.set_up(host)
    assert path.read_text() == '{"a": 1}'
    assert desk.book.records() == []


def test_what_somebody_else_wrote_at_the_same_moment_stays(desk: Desk) -> None:
    host, path = _rewritten(desk, '{"a": 2}')
    with pytest.raises(Unfit, match="same moment"):
        desk.set_up(host)
    assert path.read_text() == '{"a": 2}'
    assert desk.book.records() == []


def test_two_setups_at_once_are_one_after_the_other(desk: Desk) -> None:
    with desk.book.alone(), pytest.raises(Unfit, match="Another setup"), Book(desk.root / "store").alone():
        pass


# -- undone later


@each_host
def test_what_others_wrote_since_stays_when_undone(desk: Desk, host: Host) -> None:
    path = desk.write(host, ended(host))
    desk.set_up(host)
    path.write_bytes(path.read_bytes() + b"\r\n\r\n")
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert path.read_bytes() == ended(host).encode() + b"\r\n\r\n"


def test_a_file_that_its_host_wrote_anew_keeps_what_the_host_added(desk: Desk) -> None:
    path = desk.file(CLAUDE)
    desk.set_up(CLAUDE)
    said = json.loads(path.read_text())
    path.write_text(json.dumps({"userID": "u", **said}, indent=2))
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert json.loads(path.read_text()) == {"userID": "u"}


def test_a_file_of_ours_that_was_only_formatted_anew_is_removed(desk: Desk) -> None:
    path = desk.file(CLAUDE, Scope.PROJECT)
    desk.set_up(CLAUDE, scope=Scope.PROJECT)
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert desk.undo() == [Undone.REMOVED]
    assert desk.tree() == {}


def test_directories_that_were_made_stay_when_others_use_them(desk: Desk) -> None:
    desk.set_up(CODEX)
    (desk.home / ".codex/auth.json").write_text("{}")
    assert desk.undo() == [Undone.REMOVED]
    assert desk.tree() == {"home/.codex": None, "home/.codex/auth.json": b"{}"}


@pytest.mark.parametrize("change", ["gone", "taken out", "as before", "somebody else's"])
def test_where_nothing_is_ours_any_more_nothing_is_changed(desk: Desk, change: str) -> None:
    path = desk.write(CLAUDE, '{"mcpServers": {"x": {}}}')
    desk.set_up(CLAUDE)
    if change == "gone":
        path.unlink()
    else:
        entry = {"mailbox": {"command": "theirs"}} if change == "somebody else's" else {}
        text = '{"mcpServers": {"x": {}}}' if change == "as before" else json.dumps({"mcpServers": entry, "b": 1})
        path.write_text(text)
    before = desk.tree()
    assert desk.undo() == [Undone.GONE]
    assert desk.tree() == before
    assert desk.book.records() == []


def test_a_file_that_is_broken_by_now_is_left_alone_and_can_be_undone_when_it_is_mended(desk: Desk) -> None:
    path = desk.write(CLAUDE, "{}")
    desk.set_up(CLAUDE)
    text = path.read_text()
    path.write_text(text + "}")
    with pytest.raises(Unfit):
        desk.undo()
    assert path.read_text() == text + "}"
    path.write_text(text)
    assert desk.undo() == [Undone.RESTORED]


def test_without_its_backup_our_entry_alone_is_taken_out(desk: Desk) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    record = desk.set_up(CODEX)
    assert record.backup
    desk.book.backup(record.backup).write_text("not what it was")
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert path.read_bytes() == text_for(CODEX).encode()


def test_an_entry_that_was_there_before_us_comes_back_though_others_wrote_since(desk: Desk) -> None:
    path = desk.write(CLAUDE, '{"mcpServers": {"mailbox": {"command": "mcp-mailbox", "env": {"A": "b"}}}}')
    desk.set_up(CLAUDE)
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "more": 1}))
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert json.loads(path.read_text()) == {
        "mcpServers": {"mailbox": {"command": "mcp-mailbox", "env": {"A": "b"}}},
        "more": 1,
    }


def test_several_setups_are_undone_one_after_the_other(desk: Desk) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    for program in ("/a/mcp-mailbox", "/b/mcp-mailbox", "/c/mcp-mailbox"):
        desk.set_up(CODEX, moved(STDIO, program))
    assert len(desk.book.records()) == 3
    assert desk.undo() == [Undone.RESTORED] * 3
    assert path.read_bytes() == text_for(CODEX).encode()


def test_a_crash_before_the_file_was_written_leaves_nothing_to_undo(desk: Desk) -> None:
    path = desk.write(CODEX, text_for(CODEX))
    before = path.read_bytes()
    desk.set_up(CODEX)
    path.write_bytes(before)  # the record is on disk first: so it looks after such a crash
    assert desk.undo() == [Undone.GONE]
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["set_up", "undo"])
@pytest.mark.parametrize("again", [True, False])
def test_whenever_it_is_killed_nothing_of_it_stays_for_good(tmp_path: Path, what: str, again: bool) -> None:
    step = 1
    while _is_killed_and_mended(tmp_path / str(step), what, step, again=again):
        step += 1
    assert step > 10, "it was killed, and often"


def _is_killed_and_mended(root: Path, what: str, step: int, *, again: bool) -> bool:
    """Kill it before that step, undo all of it, and look; false when it was done before."""
    root.mkdir()
    desk = Desk(root)
    path = desk.write(CLAUDE, '{"key": "secret"}')
    theirs = [path.with_name(name) for name in ("..claude.json.abcd1234.tmp", "..claude.json.mcp-mailbox-1.tmp")]
    for each in theirs:
        each.write_text("somebody else's")
    if what == "undo":
        desk.set_up(CLAUDE)
    if not _killed(desk, what, step):
        return False
    lock = path.with_name(".claude.json.lock")
    if lock.exists():
        os.utime(lock, (1, 1))  # as it is after ten seconds
    with desk.book.alone():
        if again and desk.plan(CLAUDE).action is not Action.NOTHING:
            desk.set_up(CLAUDE)
        desk.undo()
    assert path.read_text() == '{"key": "secret"}'
    assert {*desk.home.iterdir()} - {lock} == {path, *theirs}, f"killed before step {step}"
    assert {each.name for each in (root / "store").rglob("*")} <= {"setup.json.lock"}, f"killed before step {step}"
    return True


def _killed(desk: Desk, what: str, step: int) -> bool:
    command = [sys.executable, "-m", "tests.setup.killed", str(desk.root), what, str(step)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode != 0


def test_what_a_setup_is_writing_right_now_is_not_swept(desk: Desk) -> None:
    desk.write(CLAUDE, "{}")
    left, held = (desk.home / f"..claude.json.mcp-mailbox-{each}.tmp" for each in ("aaaaaaaa", "bbbbbbbb"))
    left.write_text("secret")
    with held.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        desk.set_up(CLAUDE)
        assert not left.exists()
        assert held.exists()
    desk.undo()
    assert not held.exists()


def test_that_the_backups_are_gone_is_no_failure(desk: Desk) -> None:
    path = desk.write(CLAUDE, '{"a": 1}')
    desk.set_up(CLAUDE)
    shutil.rmtree(desk.root / "store/setup-backups")
    assert desk.undo() == [Undone.TAKEN_OUT]
    assert json.loads(path.read_text()) == {"a": 1}
    assert desk.book.records() == []


def test_records_that_cannot_be_read_are_refused_with_where_the_backups_are(desk: Desk) -> None:
    desk.set_up(CODEX)
    (desk.root / "store/setup.json").write_text("{")
    with pytest.raises(Unfit, match="setup-backups"):
        desk.book.records()


# -- what is shown


def test_a_diff_shows_what_changes_and_no_secret_around_it(desk: Desk) -> None:
    desk.write(
        CODEX, 'openai_api_key = "sk-1"\n[mcp_servers.x.http_headers]\nAuthorization = "Bearer abc"\nother = "seen"\n'
    )
    diff = desk.plan(CODEX).diff()
    assert "sk-1" not in diff
    assert "abc" not in diff
    assert "seen" in diff
    assert "+[mcp_servers.mailbox]\n" in diff
    assert diff.startswith(f"--- {desk.file(CODEX)}\n+++ {desk.file(CODEX)}\n")


def test_a_diff_of_a_new_file_is_against_nothing_and_names_of_variables_are_shown(desk: Desk) -> None:
    diff = desk.plan(CODEX, OVER_HTTP).diff()
    assert diff.startswith("--- /dev/null\n")
    assert '+bearer_token_env_var = "MCP_MAILBOX_TOKEN"\n' in diff


def test_a_diff_shows_how_vs_code_will_ask(desk: Desk) -> None:
    assert '"Bearer ${input:mailbox-token}"' in desk.plan(HOSTS["vscode"], OVER_HTTP).diff()


def test_a_file_is_replaced_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = desk.write(CODEX, "old")
    held = path.open("rb")
    disk.replace(disk.read(path), b"new", 0o600)
    assert held.read() == b"old", "who has it open reads the old file to its end"
    held.close()
    assert path.read_bytes() == b"new"

    def fail(_: object, __: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(Unfit, match="No space left"):
        disk.replace(disk.read(path), b"newer", 0o600)
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]
    assert path.read_bytes() == b"new"
