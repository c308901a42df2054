"""Signs of life over HTTP: of a wait that is told of, and of one that is not."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_mailbox.clocks import SystemClock
from mcp_mailbox.engines.sqlite import open_store
from mcp_mailbox.fronts.http import stream
from mcp_mailbox.fronts.http.listener import bind, listening
from mcp_mailbox.fronts.mcp.client import Client
from mcp_mailbox.fronts.mcp.server import build_server
from mcp_mailbox.postoffice import PostOffice
from tests.conftest import DEADLINE
from tests.http.caller import LEGACY, MODERN, Answer, Caller
from tests.http.serving import open_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_wait_that_tells_of_progress_needs_no_other_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    monkeypatch.setattr(
        Client.__init__, "__kwdefaults__", {**(Client.__init__.__kwdefaults__ or {}), "progress_every": 0.1}
    )
    monkeypatch.setattr(stream, "_TICK", 0.05)
    monkeypatch.setattr(stream, "PING_EVERY", 1.0)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with anyio.fail_after(DEADLINE):
        async with open_store(tmp_path / "mail.db", SystemClock()) as store:
            office = PostOffice(store)
            app = open_app(build_server(), office, port)
            async with office.business(), listening(app, listener, None):
                told, quiet = await anyio.to_thread.run_sync(_wait_twice, Caller(port, None), era)
    shown = [each["params"] for each in told.events if each.get("method") == "notifications/progress"]
    assert len(shown) > 2
    assert {each["progressToken"] for each in shown} == {"a token"}
    assert [each["progress"] for each in shown] == sorted({each["progress"] for each in shown})
    assert told.events[-1]["result"]["structuredContent"]["messages"] == []
    assert told.body.count(stream._PING) == 1, "the one that opens the stream"
    assert quiet.body.count(stream._PING) >= 2
    assert len(quiet.events) == 1


def _wait_twice(us: Caller, era: str) -> tuple[Answer, Answer]:
    if era == LEGACY:
        us.begin()
        us.within("tools/call", name="create_mailbox", arguments={"name": "alice"})
    else:
        us.call("create_mailbox", name="alice")
    return _wait(us, era, {"progressToken": "a token"}), _wait(us, era, {})


def _wait(us: Caller, era: str, meta: dict[str, str]) -> Answer:
    call = {"name": "wait_for_message", "arguments": {"timeout": 1.5, "mailbox": "alice"}}
    if era == LEGACY:
        return us.within("tools/call", **call, _meta=meta)
    message = us.message("tools/call", **call)
    message["params"]["_meta"] = {**message["params"]["_meta"], **meta}
    return us.ask(body=message, **us.modern(message))
