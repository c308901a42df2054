"""The commands: one table row each, and how one is run. A relay never comes here: its start would pay for the imports.

A command's module is imported when that command is asked for, and only its own arguments are built: what a person waits
for is one command, not all of them.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mcp_mailbox import __version__, rendezvous
from mcp_mailbox.fronts.cli import exits

PROGRAM = "mcp-mailbox"
MAIL, PEOPLE, OFFICE, STORE = "Mail", "People and agents", "Server", "Store"
_SHOWN = 40
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
_STREAMS = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
"""Standard streams, and how what replaces a closed one is opened: an answer that nobody can read fails."""
_HELP = ("-h", "--help")
_VERSION = ("-V", "--version")


class Command(NamedTuple):
    """A row: the name is the key in `COMMANDS`.

    `does` is one line. `where` is module:function of this package, which adds the arguments to a parser and returns
    what runs them. `nothing` is what exit code 1 means; empty when it never ends with that.
    """

    group: str
    does: str
    where: str
    examples: tuple[str, ...] = ()
    nothing: str = ""


COMMANDS: dict[str, Command] = {
    "inbox": Command(
        MAIL,
        "list what waits for you",
        "looking:inbox",
        ("inbox", "inbox --show overdue", "inbox --all --json | jq '.messages[].id'"),
        "nothing is there",
    ),
    "read": Command(
        MAIL,
        "show one message whole, and how far what you sent has come",
        "looking:read",
        ("read 3k7qz", "read 3k7qz --raw > report.md", "read 3k7qz --attachment plan.png -o plan.png"),
    ),
    "send": Command(
        MAIL,
        "send mail; it is on disk when this ends",
        "writing:send",
        (
            'send alice -s "Build" -b "It is green again."',
            'send alice bob -s "Test run" < report.txt',
            "send alice --delay 2h --ttl 1d --priority urgent",
            'send alice -b "See there." --attach report.txt',
        ),
        "nothing was written in the editor, so nothing was sent",
    ),
    "reply": Command(
        MAIL,
        "answer a message, which acks it",
        "writing:reply",
        ('reply 3k7qz -b "Thank you."', "reply 3k7qz --all"),
        "nothing was written in the editor, so nothing was sent",
    ),
    "wait": Command(
        MAIL,
        "take mail, waiting until some comes",
        "taking:wait",
        ("wait --timeout 10m --from alice", "wait --ack --json"),
        "nothing came",
    ),
    "tail": Command(
        MAIL,
        "follow a mailbox: a line for each message as it comes; takes nothing",
        "taking:tail",
        ("tail", "tail --mailbox alice --json"),
    ),
    "search": Command(
        MAIL,
        "search all mail that you received or sent, newest first",
        "looking:search",
        ("search deploy failed --from alice", "search --thread 3k7qz"),
        "nothing is found",
    ),
    "ack": Command(MAIL, "say that you are done with messages", "settling:ack", ("ack 3k7qz",)),
    "release": Command(
        MAIL, "put messages back, for now or for later", "settling:release", ("release 3k7qz --delay 1h",)
    ),
    "reject": Command(
        MAIL,
        "refuse messages for good; their senders are told",
        "settling:reject",
        ('reject 3k7qz --reason "Not mine."',),
    ),
    "accept": Command(
        MAIL,
        "let strangers in who ask to write to you; `reject` keeps them out",
        "settling:accept",
        ("accept 3k7qz",),
    ),
    "extend": Command(MAIL, "keep what you took for longer", "settling:extend", ("extend 3k7qz --delay 30m",)),
    "dead": Command(
        MAIL,
        "list dead letters, retry them or clear them away",
        "looking:dead",
        ("dead", "dead --retry 3k7qz", "dead --purge --all"),
        "there are none",
    ),
    "agents": Command(
        PEOPLE,
        "list whom one can write to, what they do, and who is there",
        "looking:agents",
        ("agents", "agents review sql", "agents --space '*'"),
        "nobody is found",
    ),
    "channels": Command(
        PEOPLE,
        "list the channels of your space, join and leave them",
        "channels:add",
        ("channels", "channels join '#build'", "channels leave '#build'"),
        "there are none, or you were not a member",
    ),
    "doctor": Command(
        OFFICE,
        "look for what is wrong, and say how it is mended; changes nothing",
        "doctor:add",
        ("doctor", "doctor --json"),
        "something is wrong",
    ),
    "doorbells": Command(
        OFFICE,
        "show when hosts were rung for mail, and why not",
        "bells:add",
        ("doorbells", "doorbells -n 100 --json"),
        "nobody was rung yet",
    ),
    "watch": Command(
        OFFICE,
        "start a program, or call a webhook, when mail comes",
        "watch:add",
        ("watch --mailbox build --exec ./worker.sh", "watch --mailbox build --webhook https://example.org/mail"),
        "with --once: the webhook was not taken; a program's own code, when it has another than 0, is this one's too",
    ),
    "hook": Command(
        OFFICE,
        "say that there is mail; hosts' hooks run this",
        "bells:hook",
        ("hook SessionStart",),
    ),
    "completion": Command(
        OFFICE,
        "print what makes a shell complete commands, options, names and ids",
        "completion:add",
        ("completion bash >> ~/.bashrc", "completion fish | source"),
    ),
    "serve": Command(
        OFFICE,
        "serve MCP over HTTP too, in the foreground",
        "serving:add",
        ("serve", "serve --host 0.0.0.0 --tls-cert cert.pem --allow-host mail.example.org"),
    ),
    "setup": Command(
        OFFICE,
        "register this in Claude Code, Codex, Gemini CLI, OpenCode, Cursor, VS Code, Claude Desktop",
        "setup:add",
        ("setup", "setup --host codex --dry-run", "setup --undo"),
        "it is registered, but a server does not answer",
    ),
    "habits": Command(
        OFFICE,
        "print what agents should know of mail, for AGENTS.md or CLAUDE.md",
        "habits:add",
        ("habits >> AGENTS.md", "habits --skill > .claude/skills/mailbox/SKILL.md"),
    ),
    "status": Command(OFFICE, "show the post office, and how to register it", "running:status", ("status --json",)),
    "stop": Command(
        OFFICE, "stop the post office, `serve` too; the next call of a host starts one", "running:stop", ("stop",)
    ),
    "token": Command(
        OFFICE,
        "make, list, revoke and rotate the tokens of agents that come over HTTP",
        "tokens:add",
        ("token create laptop --mailbox alice", "token list", "token revoke ID"),
    ),
    "audit": Command(
        OFFICE,
        "show who asked for what, by which way, and what came of it; never what mail says",
        "auditing:add",
        ("audit --since 2h", "audit --principal ci --verb send --json"),
        "nothing of that was noted",
    ),
    "invite": Command(
        OFFICE,
        "invite another machine or person to this hub: prints the line to type there, good once",
        "joining:invite",
        ("invite --space team", "invite --principal local", "invite --list", "invite --revoke ID"),
    ),
    "join": Command(
        OFFICE,
        "join a hub by an invitation: this machine's mail is there from then on",
        "joining:join",
        ("join https://hub.example.org CODE",),
    ),
    "leave": Command(OFFICE, "leave the hub that was joined", "joining:leave", ("leave",)),
    "keys": Command(
        OFFICE,
        "show whose signatures this machine knows, trust a key, or forget one",
        "keys:add",
        ("keys", "keys --trust alice@team FINGERPRINT", "keys --forget alice@team"),
    ),
    "guard": Command(
        OFFICE,
        "for git's pre-commit hook: refuse a commit that touches what others have reserved",
        "guard:add",
        ("guard --install",),
        "others hold what the commit touches, or the hook cannot be written",
    ),
    "demo": Command(OFFICE, "watch two agents exchange mail, in a throw-away home", "running:demo", ("demo",)),
    "stdio": Command(OFFICE, "speak MCP on stdin and stdout; hosts start this", "running:stdio", ("stdio",)),
    "backup": Command(
        STORE, "copy the store to a file while agents go on", "archive:backup", ("backup ~/mail-backup.db",)
    ),
    "restore": Command(
        STORE,
        "put a backup in the store's place; the store is kept beside it",
        "archive:restore",
        ("restore ~/mail-backup.db --force",),
    ),
    "export": Command(
        STORE,
        "write a mailbox's or a channel's mail as Maildir, mbox, JSON Lines or Markdown",
        "archive:export",
        ("export alice -o alice.mbox", "export alice --thread ID --format markdown", "export --channel '#build'"),
        "what is damaged on disk was left out",
    ),
}


def run(arguments: Sequence[str], others: Mapping[str, Callable[[argparse.Namespace], int]]) -> int:
    """Run one command; return the exit code (`exits`). `others` run commands that need what no front may know."""
    first = arguments[0] if arguments else "help"
    if first == "help" and len(arguments) > 1:
        arguments = [*arguments[1:], "--help"]
        first = arguments[0]
    _have_streams()
    if first in {"help", *_HELP}:
        return ended(argparse.Namespace(run=lambda _: _say(page())))
    if first in {"version", *_VERSION}:
        return ended(argparse.Namespace(run=lambda _: _say(f"{PROGRAM} {__version__}")))
    if first == "__complete":
        return _complete(arguments[1:])
    if first not in COMMANDS:
        return _unknown(first)
    chosen = parse(first, arguments[1:])
    if first in others:
        chosen.run = others[first]
    return ended(chosen)


def _say(text: str) -> int:
    print(text)  # noqa: T201 - a command line prints
    return exits.DONE


def _have_streams() -> None:
    """Put something in the place of standard streams that whoever started us has closed.

    Else the next file that is opened would be one of them.
    """
    for number, (name, mode, way) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, way)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def parse(name: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Read what stands behind a command's name; `run` of what is returned does it. Exits with 2 and a hint."""
    return parser(name).parse_args(arguments)


class _Help(argparse.HelpFormatter):
    """Fits what is said to the terminal; lines that are indented, such as examples, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap  # noqa: PLC0415 - 8 ms, for help alone

        whole = (line if line.startswith(" ") else textwrap.fill(line, width) for line in text.splitlines())
        return "\n".join(indent + line for line in whole)


def parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    command = COMMANDS[name]
    module, _, function = command.where.partition(":")
    made = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name}",
        description=f"{command.does[0].upper()}{command.does[1:]}.",
        epilog=_epilog(command),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    runs = getattr(importlib.import_module(f"{__package__}.{module}"), function)(made)
    if runs is not None:
        made.set_defaults(run=runs)
    return made


def ended(chosen: argparse.Namespace) -> int:
    """Do what was chosen, and say what it ends with."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a text file
    try:
        code = int(chosen.run(chosen))
        sys.stdout.flush()
    except rendezvous.Refused as refused:
        from mcp_mailbox.fronts.cli import trouble  # noqa: PLC0415 - not needed when it goes well

        return trouble.tell(refused, as_json=getattr(chosen, "json", False))
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        # Else Python would try again on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # who reads has had enough
            return exits.DONE
        print(f"{PROGRAM}: the answer cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return exits.REFUSED
    return code


def _complete(words: Sequence[str]) -> int:
    """Print what a shell asks for (`completion`); never says why there is nothing."""
    from mcp_mailbox.fronts.cli import completion  # noqa: PLC0415 - for shells alone

    for each in completion.complete(words[1:] if words[:1] == ["--"] else words, COMMANDS, parser):
        print(each)  # noqa: T201
    return exits.DONE


def page() -> str:
    """Return the page that says what there is, by groups."""
    import shutil  # noqa: PLC0415 - with `textwrap` 8 ms, for this page alone
    import textwrap  # noqa: PLC0415

    width = min(shutil.get_terminal_size().columns, 100)
    lines = [
        f"usage: {PROGRAM} COMMAND …",
        "",
        *textwrap.wrap(
            "A durable mailbox for every LLM agent, over MCP; and for the people who work with them.", max(width, 50)
        ),
    ]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        for name, command in COMMANDS.items():
            if command.group == group:
                lines += textwrap.wrap(
                    command.does, max(width, 50), initial_indent=f"  {name:<12}", subsequent_indent=" " * 14
                )
    lines += ["", "Examples:", *(f"  {PROGRAM} {example}" for example in _EXAMPLES if example.split()[0] in COMMANDS)]
    about = (
        f"`{PROGRAM} help COMMAND` says all of one. Without a command and without a terminal it speaks MCP on stdio, as"
        " a host starts it. State is kept in MCP_MAILBOX_HOME, by default ~/.mcp-mailbox."
    )
    return "\n".join([*lines, "", *textwrap.wrap(about, max(width, 50))])


_EXAMPLES = (
    "inbox",
    'send alice -b "The build is green again."',
    'reply ID -b "Thank you."',
    "wait --timeout 600 && echo mail",
    "doctor",
)


def _epilog(command: Command) -> str:
    lines = ["example:" if len(command.examples) == 1 else "examples:"]
    lines += [f"  {PROGRAM} {example}" for example in command.examples]
    meanings = {**exits.MEANING, **({exits.NOTHING: command.nothing} if command.nothing else {})}
    codes = ", ".join(f"{code} {meaning}" for code, meaning in sorted(meanings.items()))
    return "\n".join([*lines, "", f"exit codes: {codes}"])


def _unknown(typed: str) -> int:
    """Say what was nearly typed, or what there is."""
    import difflib  # noqa: PLC0415 - of what is mistyped alone

    names = [*COMMANDS, "help", "version"]
    near = difflib.get_close_matches(typed.lower().lstrip("-"), names, n=1)
    hint = f"Did you mean `{PROGRAM} {near[0]}`?" if near else f"There are {', '.join(COMMANDS)}."
    print(f"{PROGRAM}: no command {typed[:_SHOWN]!a}. {hint}", file=sys.stderr)  # noqa: T201
    return exits.MISUNDERSTOOD
