"""The command `mcp-mailbox`: which part of the program a call wants. Imports only that part.

Without arguments and without a terminal it is a relay, as a host starts it; a person gets help.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in `rendezvous`: `typing` would cost the relay 4 ms
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from mcp_mailbox import office


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:]
    if arguments == ["stdio"] or not (arguments or sys.stdin.isatty()):
        from mcp_mailbox import relay  # noqa: PLC0415 - a relay's start pays for nothing else

        return relay.run()
    if arguments[:1] == ["hook"] and arguments[1:] not in (["-h"], ["--help"]):
        from mcp_mailbox import hook  # noqa: PLC0415 - as cheap as a relay

        return hook.run(arguments[1:])
    if arguments == ["office"]:
        return _office()
    if arguments[:1] in (["serve"], ["restore"]):
        return (_serve if arguments[0] == "serve" else _restore)(arguments[1:])
    try:
        from mcp_mailbox.fronts.cli import commands  # noqa: PLC0415

        return commands.run(arguments, {"leave": _leave, "status": _status, "doctor": _doctor})
    except KeyboardInterrupt:
        return 130  # `exits.INTERRUPTED`, which may not have been imported yet


def _office() -> int:
    """Become the post office: the socket listens before the imports that take a second."""
    from mcp_mailbox import machine, rendezvous  # noqa: PLC0415

    rendezvous.leave_the_host()
    try:
        place = rendezvous.claim(machine.home())
    except OSError as error:
        if rendezvous.no_room(error):
            os._exit(rendezvous.DISK_FULL)  # no traceback: the log has no room for it, and Python ends with 120 then
        raise
    if place is None:
        return 0  # there is one already
    place.detach()
    from mcp_mailbox import office  # noqa: PLC0415

    def open_service(stop: office.Stop) -> AbstractAsyncContextManager[office.Service]:
        # Inside, so that an installation that is broken is told to the hosts as any other reason not to open.
        from mcp_mailbox import wiring  # noqa: PLC0415

        return wiring.open_service(place.home, stop)

    return office.run(place, open_service)


def _serve(arguments: list[str]) -> int:
    """Become the post office in the foreground, with HTTP."""
    from mcp_mailbox import machine, rendezvous  # noqa: PLC0415
    from mcp_mailbox.errors import Refusal  # noqa: PLC0415
    from mcp_mailbox.fronts.cli import commands, trouble  # noqa: PLC0415

    given = commands.parse("serve", arguments)
    from mcp_mailbox import config, frontdoor, office, wiring  # noqa: PLC0415 - a second, which `serve --help` need not take

    try:
        home = machine.home()
        config.office_settings(os.environ)  # a wrong one must not drive the running post office out
        with frontdoor.front_door(home, config.serving(**vars(given))) as door:
            place = rendezvous.take_over(home)
            return office.run(place, lambda stop: wiring.open_service(home, stop, door), stays=True)
    except Refusal as refusal:
        return trouble.tell(rendezvous.Refused(refusal.code, str(refusal)), as_json=False)
    except rendezvous.Refused as refused:
        return trouble.tell(refused, as_json=False)


def _restore(arguments: list[str]) -> int:
    """Put a backup in the store's place: no post office may run, so this is done here."""
    from mcp_mailbox import machine, rendezvous  # noqa: PLC0415
    from mcp_mailbox.errors import Refusal  # noqa: PLC0415
    from mcp_mailbox.fronts.cli import archive, commands, screen, trouble  # noqa: PLC0415

    given = commands.parse("restore", arguments)
    from mcp_mailbox import restoring  # noqa: PLC0415

    os.umask(0o077)
    try:
        with screen.progress("restore") as show:
            done = restoring.restore(machine.home(), given.file.absolute(), show, force=given.force)
    except Refusal as refusal:
        return trouble.tell(rendezvous.Refused(refusal.code, str(refusal)), as_json=given.json)
    except rendezvous.Refused as refused:
        return trouble.tell(refused, as_json=given.json)
    archive.show_restored(done.store, done.aside, done.missing, tokens_kept=done.tokens_kept, as_json=given.json)
    return 0


def _leave(chosen: Namespace) -> int:
    """Leave the hub that was joined: what waits for it is the engine's to say."""
    from mcp_mailbox import unsent  # noqa: PLC0415
    from mcp_mailbox.fronts.cli import joining  # noqa: PLC0415

    return joining.left(chosen, unsent.waiting)


def _status(chosen: Namespace) -> int:
    """Say how the post office stands, and what waits for a hub while there is none."""
    from mcp_mailbox.fronts.cli import running  # noqa: PLC0415

    return running.tell(chosen, _standing)


def _doctor(chosen: Namespace) -> int:
    """Look for what is wrong."""
    from mcp_mailbox.fronts.cli import doctor  # noqa: PLC0415

    return doctor.examine(chosen, _standing)


def _standing(home: str, kept: Mapping[str, object] | None) -> dict[str, Any]:
    from mcp_mailbox import unsent  # noqa: PLC0415 - for machines of a hub alone

    return unsent.standing(home, kept)


if __name__ == "__main__":
    sys.exit(main())
