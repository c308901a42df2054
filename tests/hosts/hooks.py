"""What hooks and channels do in the real hosts: part of `python -m tests.hosts --scenario doorbell`.

Codex is asked before and after somebody trusts its hooks; Claude Code over HTTP, where nothing but a hook wakes it; and
Claude Code with its flag for channels, which say what they say.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.hosts import plain_client
from tests.hosts.doorbell import REST, SENDER, START_SECONDS, reader, rounds, sleeper
from tests.hosts.endpoint import Endpoint

if TYPE_CHECKING:
    from tests.hosts.doorbell import Stage, Watch
    from tests.hosts.hosts import ClaudeCode, Codex

_REMINDER = f"from {SENDER} in"
_DOWN = b"\x1b[B"
_TRUST = "Trust all and continue"
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")
_CHANNELS = "--dangerously-load-development-channels"


def rewake(stage: Stage, make: Callable[..., ClaudeCode], over_http: Callable[..., ClaudeCode], url: str) -> None:
    """Claude Code over HTTP: a hook waits in the background, and wakes it."""
    report = stage.report
    report.section("8j. Claude Code over HTTP, woken by a hook that waits (asyncRewake)")
    host = over_http("claude-http", mailbox="hooked")
    host.set_up_hooks("--url", url)
    with stage.run(host, "hooked", reader) as watch:
        rested = _is_idle(watch)
        report.check("its hook waits, and it is told of the first message", rested, "")
        rounds(report, watch, "idle, over HTTP")
        report.note(f"the first ring: {_told(watch)}")
        told = watch.rings(0.0)
        # Fewer where turns take longer than what is between two messages.
        report.check("none is told twice", 0 < told <= watch.sent, f"{told} rings for {watch.sent}")
    report.section("8k. Claude Code on stdio with the same hooks: the socket alone rings")
    both = make("claude-both", MCP_MAILBOX_ADDRESS="both")
    both.set_up_hooks("--hooks", "rewake")
    with stage.run(both, "both", reader) as watch:
        stage.seated()
        rounds(report, watch, "with hooks that wait", 5)
        rings = [each for each in stage.log() if each["mailbox"].startswith("both@") and each["outcome"] == "rung"]
        kinds = [each["kind"] for each in rings]
        report.check(
            "rung by the socket alone, once each at most", set(kinds) == {"claude"} and len(kinds) <= watch.sent, kinds
        )


def _is_idle(watch: Watch) -> bool:
    """Send the first message once the host has drawn its screen."""
    time.sleep(4 * REST)
    began = time.monotonic()
    watch.send()
    woken = watch.woken(began, START_SECONDS) is not None
    time.sleep(REST)
    return woken


def _told(watch: Watch) -> str:
    prompt = next(one.conversation.prompt for one in watch.endpoint.requests if _REMINDER in one.conversation.prompt)
    return prompt[prompt.index("Stop hook") if "Stop hook" in prompt else 0 :][:160]


def codex(stage: Stage, make: Callable[..., Codex]) -> None:
    """Codex's hooks, without trust, with its flag that needs none, and once somebody has trusted them."""
    report = stage.report
    report.section("9f. Codex's hooks")
    host = make("codex-hooks", MCP_MAILBOX_ADDRESS="codex-hooks")
    _run_once(stage, host, "opens its mailbox")
    said = host.set_up_hooks()
    report.check("setup says that they must be trusted", "until you have trusted them" in said, said[-200:])
    with plain_client.agent(stage.server, stage.root / "bystander", SENDER, 900.0) as sender:
        sender.call("send", {"to": "codex-hooks", "body": "This is not for a hook."})
    for flags, runs in (([], False), (["--dangerously-bypass-hook-trust"], True)):
        host.flags = flags
        told = _run_once(stage, host, " ".join(flags) or "without trust")
        report.check(f"codex exec {' '.join(flags)}: {'' if runs else 'no '}word of mail", told is runs, told)
    host.flags = []
    with stage.run(host, "codex-hooks", sleeper) as watch:
        asked = _until(lambda: _TRUST in _screen(watch))
        report.check("in a terminal it asks whether to trust them", asked, _screen(watch)[-300:])
        watch.terminal.press(_DOWN)  # to `Trust all and continue`
        time.sleep(REST)
        watch.terminal.press(b"\r")
        time.sleep(2 * REST)
        watch.send()
        watch.terminal.type("Go on.")
        told = _until(lambda: any(_REMINDER in one.text for one in list(watch.endpoint.requests)))
        report.check("once trusted: its model is told", told, [each["kind"] for each in stage.log()][-3:])


def _run_once(stage: Stage, host: Codex, what: str) -> bool:
    """Let it run for one turn; return whether its model was told of mail."""
    logs = stage.root / "logs" / f"codex-exec {what}"
    with Endpoint(host.dialect, sleeper, logs) as endpoint, host.start(endpoint.url, logs / "host.txt") as process:
        process.ended(START_SECONDS)
    return any(_REMINDER in one.text for one in endpoint.requests)


def channels(stage: Stage, make: Callable[..., ClaudeCode]) -> None:
    """What Claude Code makes of our channel; it is a preview, which it may not have here."""
    report = stage.report
    report.section(f"8l. Claude Code with {_CHANNELS}")
    host = make("claude-channel", MCP_MAILBOX_ADDRESS="channelled", MCP_MAILBOX_CHANNELS="on")
    host.flags = [_CHANNELS, "server:mailbox"]
    with stage.run(host, "channelled", reader) as watch:
        stage.seated()
        watch.terminal.press(b"\r")  # to its question whether that is meant
        time.sleep(2 * REST)
        watch.send()
        _until(lambda: bool(stage.log()) and stage.log()[-1]["kind"] == "channel")
        kinds = [each["kind"] for each in stage.log() if each["mailbox"].startswith("channelled@")]
        report.check("it is rung by the channel alone", set(kinds) == {"channel"}, kinds)
    logs = (stage.root / "claude-channel").rglob("mcp-logs-mailbox/*.jsonl")
    lines = [line for log in logs for line in log.read_text().splitlines() if "hannel notifications" in line]
    report.note(f"the host says: {lines[-1][:160] if lines else 'nothing'}")


def _screen(watch: Watch) -> str:
    return _ANSI.sub(b" ", bytes(watch.terminal.drawn)).decode(errors="replace")


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.2)  # neither a terminal nor the log gives an event
    return False
