"""`mcp-mailbox completion SHELL`: commands, options, mailboxes and ids, completed by bash, zsh and fish.

The shell asks this program for each word (`mcp-mailbox __complete -- WORDS`), so the commands' own parsers are all that
knows them. Names and ids come from a post office that runs; none is started, no mailbox opened, no mail counts as seen,
and whatever goes wrong completes to nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from mcp_mailbox import rendezvous
from mcp_mailbox.fronts.cli import exits, person, shown

Run = Callable[[argparse.Namespace], int]
_PATIENCE = 0.5
"""Seconds that somebody who pressed a key may wait for names."""
_MAILBOXES = frozenset(("to", "mailbox", "cc", "sender", "address"))
_IDS = frozenset(("id", "ids", "thread"))
_SEVERAL = ("*", "+", "A...", "...")

SCRIPTS = {
    "bash": """\
_mcp_mailbox() {
    # Not COMP_WORDS: bash takes the @ of an address for a word of its own, and replaces only $2.
    local IFS=$' \\t' words line=${COMP_LINE:0:COMP_POINT}
    words=($line)
    case $line in *[[:space:]]) words+=("") ;; esac
    local begun=${words[${#words[@]}-1]} IFS=$'\\n'
    COMPREPLY=($("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"${begun%"$2"}"}")
}
complete -o default -F _mcp_mailbox mcp-mailbox
""",
    "zsh": """\
#compdef mcp-mailbox
_mcp_mailbox() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -Q -- "${found[@]}"; else _files; fi
}
if [ "$funcstack[1]" = _mcp_mailbox ]; then _mcp_mailbox "$@"; else compdef _mcp_mailbox mcp-mailbox; fi
""",
    "fish": """\
function __mcp_mailbox_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete -- $words[2..-1] 2>/dev/null
end
complete -c mcp-mailbox -a '(__mcp_mailbox_complete)'
""",
}


def add(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `completion`."""
    parser.add_argument("shell", choices=tuple(SCRIPTS))
    return _print


def _print(chosen: argparse.Namespace) -> int:
    print(SCRIPTS[chosen.shell], end="")  # noqa: T201 - a command line prints
    return exits.DONE


def complete(
    words: Sequence[str], commands: Collection[str], parser: Callable[[str], argparse.ArgumentParser]
) -> list[str]:
    """Return what the last word may become; the others are those before it. `parser` is a command's own."""
    *before, begun = words or [""]
    if not before:
        names = [*commands, "help", "version", "--help", "--version"]
        return [name for name in names if name.startswith(begun) and (begun or not name.startswith("-"))]
    if before[0] == "help":
        return [name for name in commands if name.startswith(begun)] if len(before) == 1 else []
    if before[0] not in commands:
        return []
    return _argument(parser(before[0]), before[1:], begun)


def _argument(parser: argparse.ArgumentParser, before: Sequence[str], begun: str) -> list[str]:
    options = {name: action for action in parser._actions for name in action.option_strings}  # noqa: SLF001 - argparse has no other way to ask
    positionals = [action for action in parser._actions if not action.option_strings]  # noqa: SLF001
    awaited: argparse.Action | None = None
    given: list[str] = []
    for number, word in enumerate(before):
        if awaited is not None:
            awaited = None
        elif word.startswith("-") and len(word) > 1:
            action = options.get(word)
            awaited = action if action is not None and action.nargs != 0 else None
        else:
            place = _placed(positionals, len(given))
            if place is not None and isinstance(place, argparse._SubParsersAction) and word in place.choices:  # noqa: SLF001
                return _argument(place.choices[word], before[number + 1 :], begun)
            given.append(word)
    if awaited is None and begun.startswith("-"):
        return [name for name in options if name.startswith(begun) and (name.startswith("--") or begun == name)]
    action = awaited or _placed(positionals, len(given))
    return _values(action, before, begun) if action is not None else []


def _placed(positionals: Sequence[argparse.Action], number: int) -> argparse.Action | None:
    """Return the positional argument that a word of that number is."""
    for action in positionals:
        if action.nargs in _SEVERAL or number == 0:
            return action
        number -= 1
    return None


def _values(action: argparse.Action, before: Sequence[str], begun: str) -> list[str]:
    if action.choices is not None:
        return [str(each) for each in action.choices if str(each).startswith(begun)]
    looked_up = _names if action.dest in _MAILBOXES else _ids if action.dest in _IDS else None
    if looked_up is None:
        return []
    try:
        return [each for each in looked_up(before, begun) if each.startswith(begun) and shown.line(each) == each]
    except (rendezvous.Refused, ValueError, LookupError, TypeError):  # a shell has nobody to tell it to
        return []


def _asking(before: Sequence[str]) -> argparse.Namespace:
    """Return what the words before say of whose mail it is about."""
    said: dict[str, str | None] = {"mailbox": None, "space": None}
    for name, value in pairwise(before):
        if name in {"--mailbox", "--space"}:
            said[name[2:]] = value
    return argparse.Namespace(**said)


def _names(before: Sequence[str], begun: str) -> list[str]:
    chosen = _asking(before)
    name, at, _ = begun.partition("@")
    given = {"query": name, "space": person.EVERY_SPACE if at else person.space(chosen), "limit": 100}
    found = _ask("find_mailboxes", chosen, given)
    addresses = [each["address"] for each in found.get("mailboxes", ())]
    return addresses if at else [person.near(each, chosen) for each in addresses]


def _ids(before: Sequence[str], begun: str) -> list[str]:
    del begun
    found = _ask("list_inbox", _asking(before), {"limit": 100})
    return [each["id"] for each in found.get("messages", ())]


class _Unread(Exception):  # noqa: N818 - of what was answered nobody has read a word
    pass


def _ask(verb: str, chosen: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    """Return the answer, empty when none runs. The post office never learns that it was used, so nothing is seen."""
    from mcp_mailbox.fronts.cli.asking import ask_once  # noqa: PLC0415 - options and commands need none of it

    found: dict[str, Any] = {}

    def use(answer: dict[str, Any]) -> None:
        found.update(answer)
        raise _Unread

    with suppress(_Unread):
        ask_once(verb, person.who(chosen, looks=True), given, use=use, seconds=_PATIENCE, start=False)
    return found
