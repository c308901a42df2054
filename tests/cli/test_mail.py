"""What a person does with mail at a shell: real processes, one post office."""

from __future__ import annotations

import getpass
import json
import os
import select
import shlex
import signal
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, times, trouble
from tests.cli.person import DEADLINE, PROGRAM, Done, Home, Person, follows


def test_what_one_sends_the_other_lists_reads_and_answers(ann: Person, bob: Person) -> None:
    assert ann.does("send", "bob", "-s", "Build", "-b", "It is red.\nAgain.").startswith("Sent ")
    listed = bob.does("inbox").splitlines()
    assert listed[0].split() == ["ID", "PRIORITY", "FROM", "SUBJECT", "AGE", "STATE", "ATTEMPTS"]
    number = listed[1].split()[0]
    assert "ann" in listed[1]
    assert "Build — It is red. Again." in listed[1]
    head, _, body = bob.does("read", number).partition("\n\n")
    assert f"From:    ann@{ann.space}" in head
    assert "Subject: Build" in head
    assert body == "It is red.\nAgain.\n"
    assert bob.does("reply", number, "-b", "I am on it.").endswith("to ann.\n")
    assert bob.run("inbox").returncode == 1, "what was answered is acked"
    [answer] = ann.json("inbox")["messages"]
    assert (answer["subject"], answer["from"]) == ("Re: Build", f"bob@{ann.space}")
    assert ann.json("read", answer["id"])["thread"] == number


def test_a_body_comes_from_standard_input_to_the_letter(ann: Person, bob: Person) -> None:
    body = "  two\n\nlines \t and\r\nmore, ünïcode 漢字\n\n"
    sent = json.loads(ann.does("send", "bob", "--json", stdin=body))["id"]
    assert bob.json("read", sent)["body"] == body
    assert bob.does("read", sent, "--raw") == body
    assert bob.json("read", json.loads(ann.does("send", "bob", "--json", "-b", "-", stdin="x"))["id"])["body"] == "x"


@pytest.mark.parametrize("body", [(), ("-b", "-")])
def test_a_body_that_nobody_has_written_is_not_sent(ann: Person, bob: Person, body: tuple[str, ...]) -> None:
    """As of a script whose standard input is empty."""
    sent = ann.sends("bob")
    for person, command in ((ann, ["send", "bob"]), (bob, ["reply", sent])):
        done = person.run(*command, *body)
        assert (done.returncode, done.stdout) == (2, "")
        assert "-b '' sends an empty message" in done.stderr
    assert [each["id"] for each in bob.json("inbox")["messages"]] == [sent]
    code, written = ann.terminal("send", "bob", *body, typed=b"\x04")
    assert code == 2, written
    bob.does("ack", sent)
    ann.does("send", "bob", "-b", "")
    assert [each["preview"] for each in bob.json("inbox")["messages"]] == [""]


def test_a_file_says_enough_without_a_body(ann: Person, bob: Person, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text("all of it")
    ann.does("send", "bob", "-a", f"{tmp_path}/report.txt")
    assert [each["preview"] for each in bob.json("inbox")["messages"]] == [""]


def test_what_was_put_off_is_listed_with_when_it_is_due(ann: Person, bob: Person) -> None:
    zone = {"TZ": "UTC0"}
    later, now = ann.sends("bob", "later", "--delay", "3d"), ann.sends("bob", "now")
    due = bob.json("inbox")["messages"][0]["deliver_at"]
    rows = {row.split()[0]: row for row in bob.run("inbox", **zone).stdout.splitlines()}
    assert rows[later].endswith(f"  due {due[:10]} {due[11:16]}")
    assert rows[now].split()[-1] in {"stored", "surfaced"}
    bob.does("wait", "--timeout", "5")
    bob.does("release", now, "--delay", "3d")
    rows = {row.split()[0]: row for row in bob.run("inbox", **zone).stdout.splitlines()}
    assert "  due " in rows[now]
    assert bob.json("inbox")["messages"][1]["state"] == "surfaced", "JSON tells both"
    bob.does("reject", later)
    assert "  rejected" in bob.does("dead")


def test_when_something_is_due_is_told_with_the_date_where_that_is_not_today() -> None:
    now = datetime.now().astimezone()
    midnight = now.replace(hour=23, minute=59, second=59)
    assert times.due(midnight.isoformat()) == "23:59"
    assert times.due((midnight + timedelta(days=1)).isoformat()) == f"{midnight + timedelta(days=1):%Y-%m-%d} 23:59"
    assert times.due(now.isoformat()) is None


def test_a_body_of_the_largest_size_travels_whatever_it_is_made_of(ann: Person, bob: Person) -> None:
    body = "\x01" * (256 * 1024)  # six characters of JSON each
    sent = json.loads(ann.does("send", "bob", "--json", stdin=body))["id"]
    assert bob.does("read", sent, "--raw") == body


@pytest.mark.parametrize("size", [256 * 1024 + 1, 3_000_000])
def test_a_body_that_is_too_large_is_refused_with_what_to_do(ann: Person, bob: Person, size: int) -> None:
    done = ann.run("send", "bob", stdin="x" * size)
    assert (done.returncode, done.stdout) == (3, "")
    assert "write a file and --attach it" in done.stderr
    assert bob.run("inbox").returncode == 1


def test_a_body_that_is_no_text_is_refused(ann: Person, bob: Person) -> None:
    done = ann.run("send", "bob", stdin=b"\xff\xfe")
    assert (done.returncode, done.stdout) == (3, "")
    assert "UTF-8" in done.stderr
    assert bob.run("inbox").returncode == 1


def test_json_is_kept_as_json_and_shown_in_lines(ann: Person, bob: Person) -> None:
    ann.does("send", "bob", "--json-body", "-b", '{"b":[1,{"ä":null}]}')
    [listed] = bob.json("inbox")["messages"]
    assert bob.json("read", listed["id"])["body"] == {"b": [1, {"ä": None}]}
    assert '    {\n      "ä": null\n    }' in bob.does("read", listed["id"])
    assert bob.does("read", listed["id"], "--raw") == '{"b":[1,{"ä":null}]}'
    done = ann.run("send", "bob", "--json-body", "-b", "{")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no JSON" in done.stderr


def test_each_option_of_send_is_what_the_recipient_sees(ann: Person, bob: Person) -> None:
    ann.beside("eve").run("inbox")
    options = ("--priority", "urgent", "--ttl", "1h", "--cc", "eve", "--receipt", "-s", "All of it")
    sent = ann.sends("bob", "x", *options)
    read = bob.json("read", sent)
    assert (read["priority"], read["subject"], read["cc"]) == ("urgent", "All of it", [f"eve@{ann.space}"])
    assert "expires_at" in read
    ann.sends("bob", "later", "--delay", "1h")
    [urgent, later] = bob.json("inbox")["messages"]
    assert (urgent["preview"], later["preview"]) == ("x", "later")
    ann.sends("bob", "old", "--topic", "t", "--priority", "low")
    ann.sends("bob", "new", "--topic", "t", "--priority", "low")
    assert [each["preview"] for each in bob.json("inbox")["messages"]] == ["x", "later", "new"]
    assert ann.sends("bob", "once", "--key", "k") == ann.sends("bob", "once", "--key", "k")


def test_some_recipients_that_are_not_there_are_told_and_the_others_get_it(ann: Person, bob: Person) -> None:
    ann.run("inbox")
    done = ann.run("send", "bob", "bobb", "-b", "x")
    assert done.returncode == 3
    assert done.stdout.endswith(" to bob.\n")
    assert done.stderr == "mcp-mailbox: No mailbox 'bobb'. Did you mean 'bob'?\n"
    assert len(bob.json("inbox")["messages"]) == 1
    refused = ann.json("send", "nobody", "-b", "x", code=3)
    assert (refused["error"], refused["message"]) == ("unknown_mailbox", "No mailbox 'nobody'.")


def test_an_answer_to_all_goes_to_the_others_as_a_copy_and_not_to_oneself(ann: Person, bob: Person) -> None:
    eve = ann.beside("eve")
    eve.run("inbox")
    sent = ann.json("send", "bob,eve", "-b", "x")["id"]
    bob.does("reply", sent, "--all", "-b", "y")
    assert [each["preview"] for each in eve.json("inbox")["messages"]] == ["x", "y"]
    assert [each["preview"] for each in ann.json("inbox")["messages"]] == ["y"]
    assert bob.run("inbox").returncode == 1
    more = ann.json("reply", sent, "-b", "one thing more")
    assert [each["address"] for each in more["to"]] == [f"bob@{ann.space}", f"eve@{ann.space}"]


def test_what_one_sent_says_how_far_it_has_come(ann: Person, bob: Person) -> None:
    sent = ann.sends("bob", "x")
    assert bob.does("reject", sent, "--reason", "Not mine.\nAt all.").endswith(": rejected\n")
    shown = ann.does("read", sent).splitlines()
    assert shown[-2].split() == ["TO", "STATE", "SINCE", "ATTEMPTS", "REASON"]
    assert shown[-1].split()[:2] == ["bob", "rejected"]
    assert shown[-1].endswith("Not mine. At all.")


def test_a_wait_takes_what_is_there_and_an_ack_ends_it(ann: Person, bob: Person) -> None:
    sent = ann.sends("bob", "take me")
    taken = bob.json("wait", "--timeout", "20")
    [message] = taken["messages"]
    assert (message["body"], message["id"]) == ("take me", f"{sent}.1")
    assert bob.json("inbox")["messages"][0]["state"] == "leased"
    assert bob.json("inbox")["messages"][0]["attempts"] == 1, "it was written out"
    assert bob.does("ack", sent) == f"{sent}: done\n", "one person is one reader"
    assert bob.run("wait", "--timeout", "0.1").returncode == 1


def test_a_wait_in_which_nothing_comes_says_so(ann: Person) -> None:
    ann.run("inbox")
    done = ann.run("wait", "--timeout", "0.1")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Nothing came.\n")
    assert ann.json("wait", "--timeout", "0", code=1) == {"messages": [], "timed_out": True}


def test_who_waits_is_woken(ann: Person, bob: Person) -> None:
    with bob.start("wait", "--ack") as waiting:
        bob.waits()
        ann.sends("bob", "wake up")
        told, _ = waiting.communicate(timeout=30)
        assert waiting.returncode == 0
        assert "\n  wake up\n" in told
        assert bob.run("inbox").returncode == 1, "it was acked once it was written"


def test_a_wait_may_ask_for_one_sender_or_one_thread(ann: Person, bob: Person) -> None:
    eve = ann.beside("eve")
    first = eve.json("send", "bob", "-b", "of eve")["id"]
    ann.sends("bob", "of ann")
    [message] = bob.json("wait", "--from", "ann", "--timeout", "5")["messages"]
    assert message["body"] == "of ann"
    [message] = bob.json("wait", "--thread", first, "--timeout", "5")["messages"]
    assert message["body"] == "of eve"


def test_mail_whose_taker_was_interrupted_is_where_it_was(ann: Person, bob: Person) -> None:
    with bob.start("wait", "--timeout", "600") as waiting:
        bob.waits()
        waiting.send_signal(signal.SIGINT)
        out, trouble = waiting.communicate(timeout=30)
        assert (waiting.returncode, out, trouble) == (130, "", "")
        ann.sends("bob", "still there")
        assert bob.json("inbox")["messages"][0]["attempts"] == 0
        assert bob.json("wait", "--timeout", "5")["messages"][0]["body"] == "still there"


def test_mail_that_could_not_be_written_out_goes_back(ann: Person, bob: Person) -> None:
    """The lease of an answer that nobody has seen is given back, and is no attempt."""
    sent = ann.sends("bob", "x")
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "mcp_mailbox", "wait", "--timeout", "5"]
        done = subprocess.run(command, env=bob.environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (
        3,
        b"mcp-mailbox: the answer cannot be written: No space left on device\n",
    )
    [listed] = bob.json("inbox")["messages"]
    assert (listed["id"], listed["state"], listed["attempts"]) == (sent, "rung", 0)
    assert bob.json("wait", "--timeout", "5")["messages"][0]["id"] == f"{sent}.2"


def test_who_waits_survives_the_post_office(ann: Person, bob: Person) -> None:
    with bob.start("wait", "--json") as waiting:
        bob.waits()
        bob.home.end()
        ann.sends("bob", "after the break")
        told, _ = waiting.communicate(timeout=30)
        assert json.loads(told)["messages"][0]["body"] == "after the break"


def test_who_waits_starts_no_post_office_that_was_stopped(bob: Person) -> None:
    with bob.start("wait", "--timeout", "3") as waiting:
        bob.waits()
        bob.home.end()
        waiting.communicate(timeout=30)
        assert waiting.returncode == 1
    assert not json.loads(bob.does("status", "--json"))["running"]


def test_who_begins_to_follow_starts_no_post_office_that_was_stopped_meanwhile(ann: Person, bob: Person) -> None:
    store = str(bob.home.store)
    bob.home.end()
    umask = os.umask(0o077)
    place = rendezvous.claim(store)
    os.umask(umask)  # a post office has one of its own
    assert place is not None
    with place, bob.start("tail", "--count", "1") as following:
        assert select.select([place.listener], [], [], DEADLINE)[0]
        place.release()  # it has asked, and was told nothing yet
        with pytest.raises(subprocess.TimeoutExpired):
            following.wait(2)
        assert not rendezvous.office_lives(store)
        ann.run("agents")
        follows(following)
        ann.sends("bob", "after the break")
        told, _ = following.communicate(timeout=30)
        assert told.endswith("  after the break\n")


def test_tail_shows_what_comes_and_takes_nothing(ann: Person, bob: Person) -> None:
    ann.sends("bob", "from before")
    with bob.start("tail", "--json", "--count", "3") as following:
        follows(following)
        sent = [ann.sends("bob", "one"), ann.sends("bob", "two", "-s", "Subject", "--priority", "urgent")]
        bob.does("ack", sent[1])
        bob.sends("bob", "to himself")
        told, trouble = following.communicate(timeout=30)
        assert (following.returncode, trouble) == (0, "")
        lines = [json.loads(line) for line in told.splitlines()]
        assert [each["preview"] for each in lines] == ["one", "two", "to himself"]
        assert (lines[1]["id"], lines[1]["subject"], lines[1]["priority"]) == (sent[1], "Subject", "urgent")
        states = {each["preview"]: each["attempts"] for each in bob.json("inbox")["messages"]}
        assert states == {"from before": 0, "one": 0, "to himself": 0}


def test_tail_tells_of_a_copy_that_does_not_ring(ann: Person, bob: Person) -> None:
    ann.beside("eve").run("inbox")
    with bob.start("tail", "--count", "1") as following:
        follows(following)
        ann.sends("eve", "a copy", "--cc", "bob")
        told, _ = following.communicate(timeout=20)
        assert told.endswith("ann  a copy\n")


def test_tail_goes_on_with_the_next_post_office_and_misses_nothing(ann: Person, bob: Person) -> None:
    with bob.start("tail", "--count", "2") as following:
        follows(following)
        ann.sends("bob", "one")
        assert following.stdout is not None
        assert following.stdout.readline().endswith("  one\n")
        following.send_signal(signal.SIGSTOP)  # so that it comes back only when the mail is there
        bob.home.end()
        ann.sends("bob", "two")
        following.send_signal(signal.SIGCONT)
        told, _ = following.communicate(timeout=30)
        assert (following.returncode, told.count("\n")) == (0, 1)
        assert told.endswith("  two\n")


def test_tail_ends_at_an_interrupt_without_a_word(bob: Person) -> None:
    with bob.start("tail") as following:
        follows(following)
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=30) == ("", "")
        assert following.returncode == 130


def test_pages_go_on_where_the_page_before_ended(ann: Person, bob: Person) -> None:
    for number in range(7):
        ann.sends("bob", f"{number}")
    page = bob.json("inbox", "--limit", "3")
    assert [each["preview"] for each in page["messages"]] == ["0", "1", "2"]
    following = bob.json("inbox", "--limit", "3", "--cursor", page["next"])
    assert [each["preview"] for each in following["messages"]] == ["3", "4", "5"]
    whole = bob.json("inbox", "--all")
    assert [each["preview"] for each in whole["messages"]] == list("0123456")
    assert "next" not in whole
    assert "--all" in bob.run("inbox", "--limit", "3").stderr


def test_dead_letters_are_listed_retried_and_cleared_away(ann: Person, bob: Person) -> None:
    one, two = ann.sends("bob", "one"), ann.sends("bob", "two")
    assert bob.run("dead").returncode == 1
    bob.does("reject", one, two, "--reason", "no")
    assert [each["id"] for each in bob.json("dead")["messages"]] == [one, two]
    assert bob.does("dead", "--retry", one) == f"{one}: to be handed out again\n"
    assert bob.json("inbox")["messages"][0]["state"] == "stored"
    assert bob.does("dead", "--purge", "--all") == f"{two}: cleared away\n"
    assert bob.run("dead", "--retry", "--all").returncode == 1
    assert [each["id"] for each in bob.json("inbox")["messages"]] == [one]
    refused = bob.run("dead", "--purge", one)
    assert refused.returncode == 3
    assert "See `mcp-mailbox dead`." in refused.stderr


@pytest.mark.parametrize("arguments", [["x"], ["--retry"], ["--purge", "x", "--all"], ["--retry", "--purge", "x"]])
def test_what_is_to_be_done_with_which_dead_letters_must_be_clear(ann: Person, arguments: list[str]) -> None:
    done = ann.run("dead", *arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_mail_is_found_by_words_sender_and_thread(ann: Person, bob: Person) -> None:
    first = ann.sends("bob", "the deploy has failed", "-s", "Deploy")
    ann.sends("bob", "something else")
    bob.does("reply", first, "-b", "looking")
    assert [each["id"] for each in bob.json("search", "deploy", "failed")["messages"]] == [first]
    assert len(bob.json("search", "--from", "ann")["messages"]) == 2
    thread = bob.does("search", "--thread", first).splitlines()
    assert len(thread) == 3
    assert "ann" in thread[1]
    assert "looking" in thread[2]
    assert bob.run("search", "nowhere").returncode == 1
    assert bob.run("search").returncode == 2
    assert bob.run("search", "x", "--since", "2h").returncode == 1


def test_agents_are_listed_with_whether_they_are_there_and_what_waits(ann: Person, bob: Person) -> None:
    ann.sends(str(bob.name))
    found = {each["address"]: each for each in ann.json("agents")["mailboxes"]}
    assert found[f"bob@{ann.space}"]["unread"] == 1
    listed = ann.does("agents", "bo").splitlines()
    assert listed[0].split() == ["ADDRESS", "PRESENCE", "UNREAD", "SEEN", "ABOUT", "SKILLS"]
    assert listed[1].split()[:3] == ["bob", "online", "1"]
    nobody = ann.run("agents", "nobody-at-all")
    assert nobody.returncode == 1
    assert nobody.stderr == "Nobody is found. Try fewer words, or --space '*'.\n"


def test_looking_for_others_makes_no_mailbox(ann: Person) -> None:
    assert ann.run("agents").returncode == 1


def test_without_a_word_of_whose_it_is_it_is_the_mailbox_of_the_login(shared_home: Home) -> None:
    somebody = shared_home.person(None)
    assert somebody.run("inbox").returncode == 1
    [entry] = somebody.json("agents")["mailboxes"]
    assert entry["address"] == f"{getpass.getuser()}@{somebody.space}"


@pytest.mark.parametrize(
    "command", [["inbox"], ["inbox", "--json"], ["wait", "--timeout", "0"], ["send", "no", "-b", "x"]]
)
def test_the_first_command_says_once_which_mailbox_it_has_made(shared_home: Home, command: list[str]) -> None:
    ann = shared_home.person("ann")
    said = f"Made your mailbox ann@{ann.space}.\n"
    first = ann.run(*command)
    assert first.stderr.startswith(said)
    assert said not in first.stdout
    assert said not in ann.run(*command).stderr


def test_who_follows_a_mailbox_that_was_not_there_is_told_too(shared_home: Home) -> None:
    ann = shared_home.person("ann")
    with ann.start("tail") as following:
        assert following.stderr is not None
        assert following.stderr.readline() == f"Made your mailbox ann@{ann.space}.\n"
        follows(following)


def test_among_those_whom_one_can_write_to_oneself_is_marked(ann: Person, bob: Person) -> None:
    ann.run("inbox")
    listed = [row.split()[:2] for row in ann.does("agents").splitlines()[1:]]
    assert listed == [["ann", "(you)"], [bob.name, "online"]]
    named = Person(ann.home, f"ANN@{ann.space}", ann.space)
    assert "ann (you)" in named.does("agents")
    assert "ann (you)" in ann.terminal("agents", NO_COLOR="1")[1]


def test_another_mailbox_is_chosen_and_never_made_by_a_slip(ann: Person, bob: Person) -> None:
    ann.sends("bob")
    assert len(ann.json("inbox", "--mailbox", "bob")["messages"]) == 1
    for command in (["inbox"], ["wait", "--timeout", "0"], ["send", "bob", "-b", "x"], ["tail"]):
        done = ann.run(*command, "--mailbox", "bobb")
        assert (done.returncode, done.stdout) == (3, "")
        assert "You have no mailbox 'bobb'. Did you mean 'bob'?" in done.stderr
    assert len(ann.json("agents")["mailboxes"]) == 2
    assert bob.json("inbox")["messages"]


def test_where_an_agent_reads_one_takes_over_only_on_purpose(ann: Person, bob: Person) -> None:
    command = [sys.executable, "-m", "mcp_mailbox", "stdio"]
    agent = subprocess.Popen(command, env=bob.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with agent:
            assert agent.stdin is not None
            assert agent.stdout is not None
            client = {"name": "host", "version": "1"}
            about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
            call = {"name": "wait_for_message", "arguments": {"timeout": 0}}
            for number, (method, params) in enumerate([("initialize", about), ("tools/call", call)]):
                request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                agent.stdin.write(json.dumps(request).encode() + b"\n")
                agent.stdin.flush()
                agent.stdout.readline()
            ann.sends("bob", "for whom?")
            refused = bob.run("wait", "--timeout", "5")
            assert (refused.returncode, refused.stdout) == (3, "")
            assert "host 1" in refused.stderr
            assert "--take-over" in refused.stderr
            assert bob.json("wait", "--timeout", "5", "--take-over")["messages"][0]["body"] == "for whom?"
            agent.stdin.close()
    finally:
        agent.kill()


@pytest.mark.parametrize(
    ("typed", "left", "code"),
    [("printf 'written' > \"$1\"", "written", 0), ("true", None, 1), ("exit 1", None, 1)],
)
def test_at_a_terminal_the_editor_writes_the_body(
    ann: Person, bob: Person, tmp_path: Path, typed: str, left: str | None, code: int
) -> None:
    editor = tmp_path / "an editor"
    editor.write_text(f"#!/bin/sh\n{typed}\n")
    editor.chmod(0o755)
    ended, written = ann.terminal("send", "bob", EDITOR=f"'{editor}'")
    assert ended == code, written
    found = bob.run("inbox", "--json")
    messages = json.loads(found.stdout)["messages"]
    assert [each["preview"] for each in messages] == ([left] if left else [])
    assert ("Nothing was sent." in written) == (left is None)


def test_what_an_editor_is_given_of_a_body_is_harmless_and_private(ann: Person, bob: Person, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    kept = tmp_path / "kept"
    editor.write_text(f'#!/bin/sh\ncp -p "$1" {kept}\nprintf "an answer" > "$1"\n')
    editor.chmod(0o755)
    sent = ann.sends("bob", "evil \x1b[2J\nmore")
    code, written = bob.terminal("reply", sent, VISUAL=str(editor))
    assert code == 0, written
    assert kept.read_text() == f"\n\nann@{ann.space} wrote:\n> evil ␛[2J\n> more\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert ann.json("inbox")["messages"][0]["preview"] == "an answer"


def test_at_a_terminal_without_an_editor_one_writes_until_ctrl_d(ann: Person, bob: Person) -> None:
    code, written = ann.terminal("send", "bob", typed=b"typed by hand\n\x04")
    assert code == 0, written
    assert bob.json("inbox")["messages"][0]["preview"] == "typed by hand"


def test_ids_are_told_whole_and_one_that_is_mistyped_is_never_guessed(ann: Person, bob: Person) -> None:
    sent = ann.sends("bob")
    for wrong in (sent[:-1], f"{sent}x", "nonsense", sent[::-1]):
        for command in ("read", "ack", "reply"):
            body = ("-b", "x") if command == "reply" else ()
            done = bob.run(command, wrong, *body)
            assert (done.returncode, done.stdout) == (3, "")
            assert f"No message {wrong!r}" in done.stderr
            assert "It is mistyped, or gone" in done.stderr
            assert "`mcp-mailbox inbox`" in done.stderr
    assert len(bob.json("inbox")["messages"]) == 1


def test_a_home_that_cannot_be_used_is_no_fault_of_the_question(ann: Person, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = ann.run("inbox", MCP_MAILBOX_HOME=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (4, "")
    told = ann.run("inbox", "--json", MCP_MAILBOX_HOME=str(tmp_path / "file"))
    assert json.loads(told.stdout)["error"] == "home_unusable"


def test_a_reader_that_has_had_enough_is_no_error(ann: Person, bob: Person) -> None:
    for number in range(3):
        ann.sends("bob", f"{number}" * 100_000)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mcp_mailbox", "inbox"]
    done = subprocess.run(command, env=bob.environment, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def unread_by_anybody(person: Person, *arguments: str, to: str) -> Done:
    """Run it with a standard output of which nobody can read anything."""
    line = f"exec {shlex.join([*PROGRAM, *arguments])} {to}"
    done = subprocess.run(["bash", "-c", line], env=person.environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("to", [">&-", ">/dev/full"])
def test_an_answer_that_cannot_be_written_is_told_and_takes_no_mail(ann: Person, bob: Person, to: str) -> None:
    sent = ann.sends("bob")
    for command in (["wait", "--timeout", "0"], ["inbox"], ["read", sent], ["help"], ["--version"]):
        done = unread_by_anybody(bob, *command, to=to)
        assert (done.returncode, "cannot be written" in done.stderr) == (exits.REFUSED, True), command
    assert ann.json("read", sent)["sent"][0]["state"] == "rung", "given back, and seen by nobody"


def test_what_is_said_beside_an_answer_never_gets_into_it(bob: Person) -> None:
    """A file that is opened where a standard stream was closed would take its place."""
    done = unread_by_anybody(bob, "inbox", "--json", to="2>&- <&-")
    assert (done.returncode, json.loads(done.stdout)["messages"]) == (exits.NOTHING, [])


def test_hints_are_put_into_a_persons_words_whole(ann: Person) -> None:
    done = ann.run("read", "nonsense")
    assert "settled mail is removed" in done.stderr, done.stderr
    done = ann.run("read", "two words")
    assert "`mcp-mailbox search` looks for words" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ('See list_inbox(show="requests"); mail is acked.', "See `mcp-mailbox inbox --show requests`; mail is acked."),
        ("Leave some: subscribe(channel=…, leave=true).", "Leave some: `mcp-mailbox channels leave`."),
        ("To go on, settle 3k7qz.1 with reject; x", "To go on, `mcp-mailbox reject 3k7qz.1`; x"),
        ("Ask its owner to create_mailbox first.", "Its owner has to make it first."),
        ("take_over=true reads here", "--take-over reads here"),
        ("create_mailbox(kind='pool') lets both", "a pool, which agents can make, lets both"),
        ("or an id from list_inbox(from='#b').", "or an id from `mcp-mailbox search --from '#b'`."),
        ("what you hold; wait_for_message(ack=[…]) does it", "what you hold; `mcp-mailbox ack ID…` does it"),
        ("resettle it, settled", "resettle it, settled"),
    ],
)
def test_hints_for_agents_are_put_into_commands(hint: str, said: str) -> None:
    assert trouble.for_people(hint) == said
