"""The story that proves the product, and what must be seen in it.

Two agents that are never there at the same time exchange mail; then a reader dies while it waits; then both are
there. What counts is the next request of a host to its model: only what stands there has reached the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hosts import environment
from tests.hosts.conversation import Call, Conversation, acked, call, follow
from tests.hosts.stage import START_SECONDS, TURN_SECONDS, Stage
from tests.hosts.teamwork import announcement, hand_over, pool_of_three, reservation_conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hosts.hosts import Host

_QUESTION = "Question 4711: which port does the staging database listen on? I need it for the migration."
_ANSWER = "Answer 4712: it listens on 5433, and the read replica on 5434."
# From outside nothing tells that a wait has reached the server, so a waiting host gets this long to get there.
_SETTLING_SECONDS = 3.0


def play_all(stage: Stage) -> None:
    for scenario in SCENARIOS:
        scenario(stage)
    the_wall(stage)


def offline_exchange(stage: Stage) -> None:
    """Question and answer between agents whose hosts are never up together."""
    report = stage.report
    report.section("Codex makes its mailbox and leaves")
    endpoint = stage.play(stage.codex, follow(call("create_mailbox", name="codex", about="Runs the database")))
    stage.check_result(endpoint.conversation(), "create_mailbox", "address", "created", "unread")

    report.section("Claude Code writes to Codex, whose host is not running")
    question = follow(
        call("create_mailbox", name="claude"),
        call("send", to="codex", subject="Staging database", body=_QUESTION),
    )
    endpoint = stage.play(stage.claude, question)
    report.note(f"tools open without a search: {sorted(endpoint.requests[0].offered) if endpoint.requests else None}")
    stage.check_result(endpoint.conversation(), "send", "id", "thread", "to")

    report.section("Codex starts, reads and answers; Claude Code is not running")
    endpoint = stage.play(stage.codex, follow(call("create_mailbox", name="codex"), call("wait_for_message"), _reply))
    stage.check_mail(endpoint, _QUESTION, sender="claude")
    stage.check_result(endpoint.conversation(), "send", "id", "thread", "to")

    report.section("Claude Code starts again and gets the answer")
    script = follow(call("create_mailbox", name="claude"), call("wait_for_message"), acked, call("list_inbox"))
    endpoint = stage.play(stage.claude, script)
    stage.check_mail(endpoint, _ANSWER, sender="codex")
    stage.check_result(endpoint.conversation(), "list_inbox", "messages", "unread")
    unread = {one.value.get("unread") for one in endpoint.conversation().exchanges if one.tool == "list_inbox"}
    report.check("after its ack nothing is unread", unread == {0}, unread)


def killed_reader(stage: Stage, host: Host) -> None:
    """A host dies while its model waits; what comes then belongs to the next reader."""
    stage.report.section(f"{host.name} is killed while it waits; its mail goes to the next reader")
    script = follow(call("create_mailbox", name=host.name), call("wait_for_message", timeout=TURN_SECONDS), acked)
    with stage.run(host, script) as (endpoint, process):
        waits = endpoint.has_called("wait_for_message", START_SECONDS)
        waits = waits and process.ended(_SETTLING_SECONDS) is None
        stage.report.check(f"{host.name} waits", waits, f"{len(endpoint.requests)} requests")
        code = process.kill()
        # At once: the server may not know yet that nobody is there.
        body = f"Note 4713: sent to {host.name} right after signal {-code}."
        stage.deliver(host.name, body)
    endpoint = stage.play(host, script)
    stage.check_mail(endpoint, body, sender="bystander")


def woken_reader(stage: Stage) -> None:
    """Both hosts are up, one waits for as long as the command line says, then the other writes."""
    stage.report.section(f"Claude Code waits {stage.wait:.0f} s; Codex writes and wakes it")
    body = "Note 4714: the migration is done."
    patience = stage.wait + TURN_SECONDS
    reader = follow(call("create_mailbox", name="claude"), call("wait_for_message", timeout=patience), acked)
    writer = follow(call("create_mailbox", name="codex"), call("send", to="claude", body=body))
    with stage.run(stage.claude, reader) as (claude, process):
        claude.has_called("wait_for_message", START_SECONDS)
        waits = process.ended(stage.wait) is None
        stage.report.check("claude still waits", waits, f"after {stage.wait:.0f} s")
        codex = stage.play(stage.codex, writer)
        stage.check_end(stage.claude, process, TURN_SECONDS)
    stage.check_mail(claude, body, sender="codex")
    heard = claude.first_with(body)
    if heard is not None:
        told = codex.requests[-1]
        waits_made = sum(isinstance(one.move, Call) and one.move.tool == "wait_for_message" for one in claude.requests)
        report = f"{(heard.at - told.at) * 1000:+.0f} ms after Codex's model heard that it was sent"
        stage.report.note(f"Claude's model had the mail {report}, in {waits_made} waits")


def the_wall(stage: Stage) -> None:
    """Nothing of the surrounding shell went in, nothing went out."""
    stage.report.section("The hosts were on their own")
    only_ours = stage.keys == {environment.DUMMY_KEY}
    stage.report.check("no key but the dummy was ever sent", only_ours, f"{len(stage.keys)} kind of key")
    stage.report.note(f"asked for besides the model, and refused: {sorted(stage.refused) or 'nothing'}")


def _reply(conversation: Conversation) -> Call:
    return Call("send", {"to": "claude", "reply_to": conversation.mail()["id"], "body": _ANSWER})


SCENARIOS: tuple[Callable[[Stage], None], ...] = (
    offline_exchange,
    lambda stage: killed_reader(stage, stage.claude),
    lambda stage: killed_reader(stage, stage.codex),
    woken_reader,
    lambda stage: hand_over(stage, stage.claude, stage.codex),
    lambda stage: hand_over(stage, stage.codex, stage.claude),
    pool_of_three,
    reservation_conflict,
    announcement,
)
"""Each leaves no mail behind in the mailboxes that the next one uses."""
