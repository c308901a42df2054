"""Whatever a body or a subject holds comes back to the letter from each format."""

from __future__ import annotations

import json
import mailbox
import re
import urllib.parse
from base64 import b64decode
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_mailbox import attachment, rendezvous
from mcp_mailbox.fronts.cli import formats, output
from mcp_mailbox.message import SUBJECT_LIMIT

Json = dict[str, Any]
STORE = "0a1b2c3d4e"
AWKWARD = [
    "",
    "\n",
    "From the beginning\nFrom \n>From \nFrom",
    "x" * 3000,
    ("word " * 400 + "From here") * 2,
    "a\r\nb\rc\n\rd\x00e",
    "trailing \t\n \n.\n..\n",
    "=41 =?utf-8?q?x?= --boundary",
    "```\n~~~~\n<script>\n# heading\n" + "`" * 50,
    "\x1b[2J\x1b]0;title\x07 \u202e\u2028\x85 \\x1b",
    "日本語\n" * 200,
    "e\u0301 \ufeff \U0010ffff",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
marks = st.text(st.sampled_from("From `~\\&#;=_?\n\r\t\x00\x1b\u2028é."), max_size=200)
bodies = st.one_of(texts, marks, st.sampled_from(AWKWARD))
subjects = st.one_of(texts, marks).map(lambda text: "".join(text.replace("\0", "").splitlines())[:SUBJECT_LIMIT])
names = st.sampled_from(["alice@default", "bürger@straße", "日本.語-x_y@default", "A.b-c_1@x_y.z"])


def mail(body: str = "hello", subject: str = "", **more: object) -> Json:
    return {
        "id": "1abcd",
        "thread": "1abcd",
        "reply_to": None,
        "from": "alice@default",
        "to": ["bob@default"],
        "cc": [],
        "subject": subject,
        "body": body,
        "format": "text",
        "kind": "message",
        "priority": "normal",
        "accepted_at": 1_800_000_000_123,
        "written_at": None,
        "expires_at": None,
        "attachments": [],
        "sent": False,
        "recipients": [],
        "state": "acked",
        "attempts": 1,
        "reason": "",
        "deliver_at": None,
        "rung_at": None,
        "surfaced_at": None,
        "leased_at": 1_800_000_000_500,
        "lease_until": None,
        "settled_at": 1_800_000_001_000,
        **more,
    }


def read(message: Message) -> tuple[str, str]:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return str(make_header(decode_header(message["Subject"] or ""))), payload.decode()


@given(bodies, subjects, bodies)
@settings(max_examples=150, deadline=None)
def test_an_mbox_gives_back_what_was_said(body: str, subject: str, second: str) -> None:
    each = [mail(body, subject), mail(second, subject), mail("last")]
    with TemporaryDirectory() as folder:
        path = Path(folder, "mbox")
        with output.file(path) as out:
            for one in each:
                out.write(formats.envelope(one) + formats.email(one, STORE) + b"\n")
        box = mailbox.mbox(path, create=False)
        assert [read(message) for message in box] == [(one["subject"], one["body"]) for one in each]
        box.close()
        # Other programs begin a message at each such line, whatever stands before it.
        assert path.read_bytes().count(b"\nFrom ") == 2
        assert path.read_bytes().isascii()
        assert max(map(len, path.read_bytes().split(b"\n"))) < 998


@given(bodies, subjects)
@settings(max_examples=150, deadline=None)
def test_a_maildir_gives_back_what_was_said(body: str, subject: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "mail")
        with output.maildir(path) as out:
            for number, seen in enumerate((True, False)):
                out.add(formats.email(mail(body, subject), STORE), 1_800_000_000_123 + number, "1abcd", seen=seen)
        box = mailbox.Maildir(path, create=False)
        found = sorted(box, key=lambda message: message.get_subdir())
        assert [read(message) for message in found] == [(subject, body)] * 2
        assert [(message.get_subdir(), message.get_flags()) for message in found] == [("cur", "S"), ("new", "")]


def unescaped(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        return found[1] or chr(int(found[2]))

    return re.sub(r"\\([!-/:-@\[-`{-~])|&#(\d+);", character, text)


def whole(text: str) -> str:
    """A body that was written with backslashes, as it was."""
    return re.sub(r"\\(?:(\\)|x(..)|u(....))", lambda m: m[1] or chr(int(m[2] or m[3], 16)), text)


@given(st.lists(st.tuples(bodies, subjects), max_size=3))
@settings(max_examples=150, deadline=None)
def test_markdown_gives_back_what_was_said_and_nothing_breaks_out_of_its_block(said: list[tuple[str, str]]) -> None:
    text = formats.title("alice@default") + b"".join(formats.markdown(mail(*each), {}) for each in said)
    found = []
    lines = text.decode().split("\n")
    place = 0
    # As CommonMark reads it: a fence ends at the first line that is as long a fence of the same mark, and nothing else.
    while place < len(lines):
        line = lines[place]
        if line.startswith("## "):
            subject = "" if line == "## (no subject)" else unescaped(line[3:])
        opened = re.fullmatch(r"(`{3,}|~{3,})(text|text escaped)", line)
        if opened:
            end = next(
                number
                for number in range(place + 1, len(lines))
                if re.fullmatch(rf" {{0,3}}{opened[1][0]}{{{len(opened[1])},}}[ \t]*", lines[number])
            )
            body = "\n".join(lines[place + 1 : end])
            found.append((whole(body) if "escaped" in opened[2] else body, subject))
            place = end
        else:
            assert re.fullmatch(r"|## .*|# Mail of `alice@default`|- [a-z ]+: .*", line), line
        place += 1
    assert found == said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text.decode())


@given(bodies, subjects)
def test_json_lines_are_ascii_and_whole(body: str, subject: str) -> None:
    line = formats.jsonl(mail(body, subject))
    assert line.isascii()
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert (found["body"], found["subject"]) == (body, subject)
    assert found["accepted_at"] == "2027-01-15T08:00:00.123Z"


@given(names, st.lists(names, min_size=1, max_size=30))
@settings(deadline=None)
def test_addresses_are_read_by_any_program_and_tell_the_name(sender: str, to: list[str]) -> None:
    text = formats.email(mail() | {"from": sender, "to": to}, STORE)
    assert text.isascii()
    message = message_from_bytes(text)
    assert sender in str(make_header(decode_header(message["From"])))
    assert [urllib.parse.unquote(each) for _, each in getaddresses([message["To"]])] == to


@example("plain subject")
@given(subjects)
def test_a_header_holds_no_line_that_a_subject_made(subject: str) -> None:
    head = formats.email(mail("body", subject), STORE).decode().partition("\n\n")[0]
    known = re.compile(r"(From|To|Date|Subject|Message-ID|X-Mailbox-[\w-]+|MIME-Version|Content-[\w-]+): .*|[ \t].+")
    assert all(known.fullmatch(line) for line in head.split("\n")), head


@example("\n")
@example("two\nlines" * 50)
@given(st.one_of(texts, marks))
@settings(deadline=None)
def test_a_reason_is_given_back_to_the_letter_and_makes_no_line(reason: str) -> None:
    text = formats.email(mail() | {"state": "rejected", "reason": reason}, STORE)
    found = message_from_bytes(text)["X-Mailbox-Reason"]
    assert (str(make_header(decode_header(found))) if found else "") == reason
    assert all(re.match(r"[\w-]+: |[ \t]", line) for line in text.decode().partition("\n\n")[0].split("\n"))
    section = formats.markdown(mail() | {"state": "rejected", "reason": reason}, {}).decode().split("\n")
    assert [unescaped(line[10:]) for line in section if line.startswith("- reason: ")] == ([reason] if reason else [])


def test_mail_is_dated_when_it_was_written() -> None:
    message = message_from_bytes(formats.email(mail() | {"written_at": 1_799_999_000_000}, STORE))
    assert message["Date"] == "Fri, 15 Jan 2027 07:43:20 +0000"
    assert message["X-Mailbox-Written"] == "2027-01-15T07:43:20.000Z"
    assert message["X-Mailbox-Accepted"] == "2027-01-15T08:00:00.123Z"


def test_what_the_language_says_of_a_message_is_in_each_format() -> None:
    body = '{"ok":true,"n":[1,2.5,"\u2028ü"]}'
    told: Json = {"cc": ["eve@default", "bürger@default"], "kind": "report", "format": "json", "reason": "no *time*"}
    times: Json = {"expires_at": 1, "deliver_at": 2, "rung_at": 3, "surfaced_at": 4, "leased_at": 5, "lease_until": 6}
    said = mail(body, **told, **times, state="dead")
    line = json.loads(formats.jsonl(said))
    assert line["body"] == {"ok": True, "n": [1, 2.5, "\u2028ü"]}
    assert {name: line[name] for name in told} == told
    assert [line[name] for name in times] == [f"1970-01-01T00:00:00.00{ms}Z" for ms in times.values()]
    message = message_from_bytes(formats.email(said, STORE))
    assert [urllib.parse.unquote(each) for _, each in getaddresses([message["Cc"]])] == told["cc"]
    assert (message.get_content_type(), read(message)[1]) == ("application/json", body)
    heads = ("State", "Kind", "Reason", "Expires", "Deliver", "Rung", "Surfaced", "Leased", "Lease-Until")
    found = [message[f"X-Mailbox-{head}"] for head in heads]
    assert found == ["dead", "report", "no *time*", *[f"1970-01-01T00:00:00.00{ms}Z" for ms in times.values()]]
    text = formats.markdown(said, {}).decode()
    for part in ("- cc: `eve@default`, `bürger@default`", "- kind: report", r"- reason: no \*time\*", "json escaped"):
        assert part in text
    assert "surfaced 1970-01-01T00:00:00.004Z" in text


def test_a_reply_refers_to_its_thread_and_what_it_answers() -> None:
    text = formats.email(mail(thread="1aaaa", reply_to="7bbbb"), STORE).decode()
    assert f"In-Reply-To: <7bbbb@{STORE}.mcp-mailbox>\n" in text
    head = " ".join(text.partition("\n\n")[0].split())
    assert f"References: <1aaaa@{STORE}.mcp-mailbox> <7bbbb@{STORE}.mcp-mailbox>" in head
    assert f"Message-ID: <1abcd@{STORE}.mcp-mailbox>\n" in text
    assert "X-Mailbox-State: acked\n" in text
    assert "Date: Fri, 15 Jan 2027 08:00:00 +0000\n" in text


@pytest.mark.parametrize("make", [output.file, output.maildir])
def test_what_does_not_get_done_leaves_nothing_and_what_is_there_is_left_alone(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "export"
    with pytest.raises(KeyboardInterrupt), make(path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(Exception, match="exists"), make(path):
        raise AssertionError
    assert path.read_text() == "mine"


# -- attachments

CONTENTS = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"", b"--=_1abcd.0a1b2c3d4e--\n", b"From \n" * 50, b"\0" * 500])
)
NAMES = st.one_of(
    st.sampled_from(
        ["plan.md", "über 中.txt", 'a"b;c.png', "mail.eml", "x.tar.gz", "(1) [2].md", "%41`*_<>.md", "a.html"]
    ),
    st.text(st.characters(), min_size=1, max_size=60),
).map(attachment.clean_name)


def attached(name: str, content: bytes | None) -> Json:
    size = len(content or b"")
    return {"name": name, "type": attachment.media_type(name), "size": size, "sha256": "0" * 64, "content": content}


@given(bodies, st.lists(st.tuples(NAMES, CONTENTS), min_size=1, max_size=3, unique_by=lambda each: each[0].casefold()))
@settings(max_examples=150, deadline=None)
def test_mail_and_json_lines_give_back_what_is_attached(body: str, files: list[tuple[str, bytes]]) -> None:
    one = mail(body, "s", attachments=[attached(*each) for each in files])
    line = formats.jsonl(one)
    assert [(each["name"], b64decode(each["content"])) for each in json.loads(line)["attachments"]] == files
    with TemporaryDirectory() as folder:
        path = Path(folder, "mbox")
        with output.file(path) as out:
            for each in (one, mail("last")):
                out.write(formats.envelope(each) + formats.email(each, STORE) + b"\n")
        box = mailbox.mbox(path, create=False)
        first, last = box
        assert read(last) == ("", "last")
        box.close()
        assert path.read_bytes().isascii()
        assert path.read_bytes().count(b"\nFrom ") == 1
    payload = first.get_payload()
    assert isinstance(payload, list)
    said, *parts = payload
    assert read_part(said) == body.encode()
    assert [(part.get_filename(), read_part(part)) for part in parts if isinstance(part, Message)] == files
    assert first.defects == []


def read_part(part: object) -> bytes:
    assert isinstance(part, Message)
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_what_is_attached_but_lost_is_named_in_each_format() -> None:
    one = mail(attachments=[attached("gone.md", None), attached("there.md", b"x")])
    message = message_from_bytes(formats.email(one, STORE))
    assert message["X-Mailbox-Missing"] == "gone.md"
    assert [part.get_filename() for part in message.walk()][2:] == ["there.md"]
    assert [each["content"] for each in json.loads(formats.jsonl(one))["attachments"]] == [None, "eA=="]
    text = formats.markdown(one, {"there.md": "mail.md.attachments/1abcd/there.md"}).decode()
    assert "- attached: gone\\.md, 0 bytes, lost\n" in text
    assert "- attached: [there\\.md](mail.md.attachments/1abcd/there.md), 1 bytes\n" in text


@given(NAMES)
def test_a_name_in_markdown_is_nothing_but_a_link(name: str) -> None:
    link = f"m.attachments/1abcd/{name}"
    text = formats.markdown(mail(attachments=[attached(name, b"")]), {name: link}).decode()
    [row] = [line for line in text.splitlines() if line.startswith("- attached: ")]
    target = re.fullmatch(r"- attached: \[(?:[^\\\[\]]|\\.)*\]\(([!-'*-~]*)\), 0 bytes", row)
    assert target is not None
    assert urllib.parse.unquote(target[1]) == link


@pytest.mark.parametrize("taken", [False, True])
def test_files_beside_are_there_all_or_not_at_all(tmp_path: Path, taken: bool) -> None:
    path = tmp_path / "mail.md"
    files = {"a.md": b"a", "über 中.txt": b"b"}
    if taken:
        (tmp_path / "mail.md.attachments").mkdir()
        with pytest.raises(rendezvous.Refused, match="exists"), output.beside(path):
            pass
        return
    with output.beside(path) as beside:
        assert beside.add("1abcd", {}) == {}
        links = beside.add("1abcd", files)
        assert not (tmp_path / "mail.md.attachments").exists()
    assert {name: (tmp_path / link).read_bytes() for name, link in links.items()} == files
    with pytest.raises(rendezvous.Refused), output.beside(tmp_path / "other.md") as beside:
        assert [beside.add("1abcd", files) for _ in range(2)], "one thing goes wrong behind another that did not"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mail.md.attachments"]
