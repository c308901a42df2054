"""`mcp-mailbox invite`, `join`, `leave`: another machine, or another person's, at this machine's hub, and back.

Whoever joins makes its token here and tells the hub no more than its SHA-256: it stands in no answer, in no terminal
and in no shell's history. It is kept before anybody is asked, so that the same line, typed again after an answer was
lost, ends as it would have the first time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcp_mailbox import files, frames, machine, rendezvous
from mcp_mailbox.fronts.cli import exits, screen, shown
from mcp_mailbox.fronts.cli.asking import ask
from mcp_mailbox.fronts.cli.running import serves
from mcp_mailbox.fronts.cli.tokens import SCOPES, read_scopes, seconds, spell_time
from mcp_mailbox.machine import HUB_FILE

Json = dict[str, Any]
Run = Callable[[argparse.Namespace], int]
_PENDING = f"{HUB_FILE}.pending"
"""The token of a join that has not been answered yet."""
_SECONDS = 30.0
_MOST = 1 << 16
"""Bytes of an answer that is read."""
_SHOWN = 100
_CERTIFICATES = "SSL_CERT_FILE"
"""The variable by which OpenSSL is told of other authorities than the system's."""


def invite(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `invite`."""
    parser.add_argument(
        "--principal",
        help="whom it will speak for; `local` is yourself, with all your mailboxes (default: somebody new)",
    )
    parser.add_argument("--space", help="the only space that there will be for it (default: all of them)")
    parser.add_argument("--mailbox", metavar="ADDRESS", help="the mailbox of calls that name none")
    parser.add_argument("--scopes", type=read_scopes, help=f"what it may, separated by commas: {','.join(SCOPES)}")
    parser.add_argument("--expires", type=seconds, metavar="TIME", help="how long the code is good (default 1d)")
    parser.add_argument("--token-expires", type=seconds, metavar="TIME", help="how long the token is (default 90d)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--list", action="store_true", help="list the invitations, without their codes")
    one.add_argument("--revoke", metavar="ID", help="let an invitation be redeemed no more")
    return _invite


def join(parser: argparse.ArgumentParser) -> Run:
    """Add the arguments of `join`."""
    parser.add_argument("url", help="the hub's address: https://hub.example.org")
    parser.add_argument("code", help="as `invite` printed it there")
    parser.add_argument(
        "--insecure", action="store_true", help="allow http to another machine: anybody on the way reads your mail"
    )
    parser.add_argument(
        "--sign", action="store_true", help="sign what this machine sends: who gets it need not trust the hub"
    )
    parser.add_argument("--json", action="store_true", help="print what was joined as JSON, refusals too")
    return _join


def leave(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `leave`, which is run by `left`."""
    parser.add_argument("--force", action="store_true", help="even if mail waits here that has not reached the hub")
    parser.add_argument("--json", action="store_true", help="print what was left as JSON, refusals too")


# -- at the hub


def _invite(chosen: argparse.Namespace) -> int:
    if chosen.list:
        return _list(chosen)
    if chosen.revoke is not None:
        ended = ask("invite revoke", id=chosen.revoke)
        if chosen.json:
            print(shown.json_line(ended))  # noqa: T201 - a command line prints
        else:
            _say(f"Invitation {ended['id']} ({shown.line(ended['name'])}) is revoked.")
        return exits.DONE
    principal = chosen.principal or f"guest-{secrets.token_hex(3)}"
    given = {
        "mailbox": chosen.mailbox,
        "space": chosen.space,
        "scopes": chosen.scopes,
        "good_for": chosen.expires * 1000 if chosen.expires else None,
        "lasts": chosen.token_expires * 1000 if chosen.token_expires else None,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    made = ask("invite", name=principal, principal=principal, **wanted)
    url = _own_url()
    line = f"mcp-mailbox join {url or 'https://THIS-HUB'} {made['code']}"
    if chosen.json:
        print(shown.json_line({**made, "url": url, "line": line}))  # noqa: T201
        return exits.DONE
    where = f"only the space {made['space']}" if made["space"] else "all spaces"
    _say(
        f"Invitation {made['id']}, good once until {spell_time(made['expires_at'])}: whoever types this speaks for"
        f" {shown.line(principal)}, may {', '.join(made['scopes'])}, and sees {where}."
    )
    if principal == "local":
        _say("`local` is you: it reads all of your mail there.")
    if url is None:
        _say("No HTTP is served: run `mcp-mailbox serve`, and write the hub's address for THIS-HUB.")
    print(line)  # noqa: T201
    return exits.DONE


def _own_url() -> str | None:
    """Return where others find this hub, None where it is not served."""
    answer = rendezvous.ask(machine.home(), frames.STATUS)
    http = json.loads(answer or b"{}").get("http") or {}
    known_as: str | None = http.get("known_as")
    return known_as.removesuffix("/mcp") if known_as else None


def _row(each: Json) -> screen.Row:
    said = (each["id"], each["principal"], ",".join(each["scopes"]), each["mailbox"], each["space"])
    return (*(shown.line(text or "") for text in said), spell_time(each["created_at"]), _state(each))


def _list(chosen: argparse.Namespace) -> int:
    found = ask("invite list")["invitations"]
    if chosen.json:
        print(json.dumps(found, indent=2))  # noqa: T201
        return exits.DONE
    if not found:
        print("No invitations. `mcp-mailbox invite` makes one.")  # noqa: T201
        return exits.DONE
    columns = (
        screen.Column("ID"),
        screen.Column("PRINCIPAL", rest=True),
        screen.Column("MAY", leave=3),
        screen.Column("MAILBOX", leave=4),
        screen.Column("SPACE", leave=2),
        screen.Column("MADE", leave=1),
        screen.Column("STATE"),
    )
    screen.table(columns, [_row(each) for each in found])
    return exits.DONE


def _state(each: Json) -> str:
    if each["redeemed_at"] is not None:
        return f"redeemed {spell_time(each['redeemed_at'])} for token {each['token']}"
    if each["revoked_at"] is not None:
        return f"revoked {spell_time(each['revoked_at'])}"
    ended = each["expires_at"] <= time.time() * 1000
    return f"{'expired' if ended else 'open until'} {spell_time(each['expires_at'])}"


# -- at the machine that joins


def _join(chosen: argparse.Namespace) -> int:
    from mcp_mailbox import invitation  # noqa: PLC0415 - not needed for the other commands
    from mcp_mailbox.errors import Refusal  # noqa: PLC0415

    url = _checked(chosen.url, insecure=chosen.insecure)
    try:
        code = invitation.read_code(chosen.code)
    except Refusal as refusal:
        raise rendezvous.Refused("bad_argument", f"{refusal.problem} {refusal.hint}") from None
    home = machine.home()
    rendezvous.prepare_home(home)
    kept = _read(Path(home) / HUB_FILE)
    if kept is not None and kept.get("url") != url:
        raise rendezvous.Refused(
            "bad_argument",
            f"This machine has joined {str(kept.get('url'))[:_SHOWN]}. `mcp-mailbox leave` takes that back.",
        )
    token = _token(Path(home) / _PENDING, url, code)
    answer = _redeem(url, code, token, home)
    if kept is not None:
        _must_go_on(kept, str(answer["principal"]))
    joined: Json = {
        "url": url,
        "token": token,
        "principal": str(answer["principal"]),
        "space": answer.get("space"),
        "mailbox": answer.get("mailbox"),
        "id": str(answer["id"]),
        "hub": str(answer.get("hub", "")),
        "expires_at": answer.get("expires_at"),
        "joined_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    # Hosts start the server in an environment of their own, without what this shell has set.
    if certificates := os.environ.get(_CERTIFICATES):
        joined["certificates"] = str(Path(certificates).absolute())
    if proxy := _proxy(url):
        joined["proxy"] = proxy
    for said in ("insecure", "sign"):
        if getattr(chosen, said):
            joined[said] = True
    files.replace(str(Path(home) / HUB_FILE), json.dumps(joined, indent=2) + "\n")
    (Path(home) / _PENDING).unlink()
    advice = _made_way(home)
    if chosen.json:
        told = {name: value for name, value in joined.items() if name != "token"}
        if proxy:
            told["proxy"] = _without_password(proxy)
        print(shown.json_line(told))  # noqa: T201
        return exits.DONE
    until = f", until {shown.line(str(joined['expires_at']))}" if joined["expires_at"] else ""
    where = f" in the space {shown.line(str(joined['space']))}" if joined["space"] else ""
    print(f"Joined {url}: this machine speaks there for {shown.line(joined['principal'])}{where}{until}.")  # noqa: T201
    print(f"{advice}: their mail is the hub's from then on.")  # noqa: T201
    return exits.DONE


def _must_go_on(kept: Json, principal: str) -> None:
    """Refuse to speak for somebody else from now on: what waits here is in the name of the former one."""
    former = str(kept.get("principal"))
    if principal != former:
        raise rendezvous.Refused(
            "bad_argument",
            f"This invitation is for {principal!a}, and this machine speaks for {former!a}. To go on as that, on the"
            f" hub: `mcp-mailbox invite --principal {former}`. To change, `mcp-mailbox leave`, then this line again.",
        )


def _checked(text: str, *, insecure: bool) -> str:
    """Return the hub's address. Raises rendezvous.Refused for one that cannot be, or that others could read along."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or "@" in parts.netloc or not _is_plain(parts.path):
        raise rendezvous.Refused(
            "bad_argument", f"{text[:_SHOWN]!a} is no hub's address. Write it as https://hub.example.org."
        )
    if parts.scheme == "http" and not insecure and not machine.is_loopback(parts.hostname or ""):
        raise rendezvous.Refused(
            "bad_argument",
            f"Over {text[:_SHOWN]!a} anybody on the way could read what you send. Use https; --insecure is for a"
            " network that is private itself.",
        )
    return text.rstrip("/").removesuffix("/mcp")


def _is_plain(path: str) -> bool:
    """Whether it can stand in a request as it is."""
    return path.isascii() and path.isprintable() and " " not in path


def _token(path: Path, url: str, code: str) -> str:
    """Return the token for that code, which is on disk before anybody is asked."""
    from mcp_mailbox.credentials import new_token  # noqa: PLC0415 - as `invitation`

    about = hashlib.sha256(f"{url} {code}".encode()).hexdigest()
    kept = _read(path)
    if kept is not None and kept.get("about") == about and re.fullmatch(r"mbx_[\w-]{43}", str(kept.get("token"))):
        return str(kept["token"])
    token = new_token()
    files.replace(str(path), json.dumps({"about": about, "token": token}) + "\n")
    return token


def _redeem(url: str, code: str, token: str, home: str) -> Json:
    """Ask the hub. Raises rendezvous.Refused."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    status, sent = _post(f"{url}/join", {"code": code, "token_sha256": digest})
    try:
        answer = json.loads(sent)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict) and {"id", "principal"} <= answer.keys():  # noqa: PLR2004
        return answer
    if not isinstance(answer, dict) or "error" not in answer:
        raise rendezvous.Refused(
            "bad_argument",
            f"{url} answers with {status}, but not as a hub does. Check the address; the same line may be typed again.",
        )
    if answer["error"] == "not_invited":
        (Path(home) / _PENDING).unlink(missing_ok=True)
    said = " ".join(str(answer.get(name, "")) for name in ("message", "hint")).strip()
    refused = "unreachable" if status >= 500 else "bad_argument"  # noqa: PLR2004
    code_of = str(answer["error"]) if said and re.fullmatch(r"[a-z_]{1,40}", str(answer["error"])) else refused
    raise rendezvous.Refused(code_of, f"The hub says: {said or answer['error']}"[:500])


def _post(url: str, asked: Json) -> tuple[int, bytes]:
    """Send it; return the status and the answer. Follows nowhere: what is sent is for this hub alone.

    Raises rendezvous.Refused: `unreachable` without a whole answer, `bad_argument` for one that is no HTTP.
    """
    import http.client  # noqa: PLC0415 - 60 ms, with the next ones, for this command alone
    import ssl  # noqa: PLC0415
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    class Nowhere(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url,
        json.dumps(asked).encode(),
        {"content-type": "application/json", "accept": "application/json", "user-agent": "mcp-mailbox"},
        method="POST",
    )
    by = urllib.request.ProxyHandler(dict.fromkeys(("http", "https"), proxy) if (proxy := _proxy(url)) else {})
    opener = urllib.request.build_opener(Nowhere, by)
    try:
        try:
            answer = opener.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            answer = error  # an answer as well, which may break off as well
        with answer:
            return answer.status, answer.read(_MOST)
    except (OSError, ValueError, http.client.IncompleteRead) as error:
        reason = getattr(error, "reason", error)
        hint = "Is it up, and the address right? The same line may be typed again."
        if isinstance(reason, ssl.SSLCertVerificationError):
            hint = (
                "Its certificate is not one that this machine trusts. If its authority is your own:"
                f" {_CERTIFICATES}=/path/to/ca.pem before the same line; it is kept for the hosts."
            )
        raise rendezvous.Refused("unreachable", f"{url} cannot be reached: {reason}. {hint}") from None
    except http.client.HTTPException as error:
        raise rendezvous.Refused(
            "bad_argument",
            f"{url} answers, but not as a hub does: {type(error).__name__}: {str(error)[:_SHOWN]!a}. Check the address,"
            " its port included; the same line may be typed again.",
        ) from None


def _proxy(url: str) -> str | None:
    """Return the proxy by which this shell reaches that address: its hosts may have none, or one of their own."""
    import urllib.request  # noqa: PLC0415 - as above

    parts = urlsplit(url)
    if chosen := os.environ.get(machine.PROXY_VARIABLE):
        return chosen
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    found = urllib.request.getproxies()
    return found.get(parts.scheme) or found.get("all")


def _without_password(proxy: str) -> str:
    parts = urlsplit(proxy)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def left(chosen: argparse.Namespace, waiting: Callable[[str, Json], int]) -> int:
    """Leave the hub. `waiting` tells how much has not reached it, from the home and what joining has left there."""
    home = machine.home()
    path = Path(home) / HUB_FILE
    kept = _read(path)
    if kept is None:
        raise rendezvous.Refused("bad_argument", "This machine has joined no hub.")
    if not chosen.force:
        _check_outbox(home, kept, waiting)
    path.unlink()
    advice = _made_way(home)
    url, token = str(kept.get("url"))[:_SHOWN], str(kept.get("id"))[:_SHOWN]
    if chosen.json:
        print(shown.json_line({"left": url, "token": token}))  # noqa: T201
        return exits.DONE
    print(f"Left {shown.line(url)}. {advice}: mail is this machine's own again.")  # noqa: T201
    print(f"The token is still good there: `mcp-mailbox token revoke {shown.line(token)}` on the hub ends it.")  # noqa: T201
    return exits.DONE


def _made_way(home: str) -> str:
    """Have a post office that runs leave, since it keeps mail where it was; return what is still to be done.

    One that serves others is not stopped for that.
    """
    if serves(home):
        return "End `mcp-mailbox serve`, which runs here, then restart your hosts"
    try:
        rendezvous.stop(home)
    except rendezvous.Refused as refused:
        if refused.code != "leaving":
            return "Run `mcp-mailbox stop`, then restart your hosts"
    return "Restart your hosts"


def _check_outbox(home: str, kept: Json, waiting: Callable[[str, Json], int]) -> None:
    """Raise rendezvous.Refused where mail waits for the hub, or where that cannot be told."""
    from mcp_mailbox.errors import Refusal  # noqa: PLC0415 - as in `_join`

    try:
        count = waiting(home, kept)
    except Refusal as refusal:
        raise rendezvous.Refused(
            "outbox_unreadable",
            f"Whether mail waits here for the hub cannot be told. {refusal} To leave all the same, say --force.",
        ) from None
    if not count:
        return
    if not rendezvous.office_lives(home):
        with suppress(rendezvous.Refused):  # why it does not start is another matter
            ask("check")  # nothing goes out without a post office
    raise rendezvous.Refused(
        "outbox_waits",
        f"Mail waits here for the hub ({count}); it goes out only once that hub is joined again. Let it be"
        " reached first (`mcp-mailbox status` says how that stands), or say --force.",
    )


def _read(path: Path) -> Json | None:
    """Return what stands in a file of ours, None for no such file or nothing of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
