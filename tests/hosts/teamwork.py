"""Scenarios of agents that share work: a task handed over, a pool of workers, files that two of them want."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.hosts import plain_client
from tests.hosts.conversation import Call, Conversation, Move, Say, acked, answered, call, follow
from tests.hosts.hosts import LEASE_SECONDS
from tests.hosts.stage import START_SECONDS, TURN_SECONDS, Stage

if TYPE_CHECKING:
    from tests.hosts.hosts import Host

_SETTLING_SECONDS = 1.5
"""From outside nothing tells that a wait has reached the server."""
_POOL = "tasks"
_TASKS = 9
_STOP = "Stop: there are no more tasks."
_GIT = {
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def hand_over(stage: Stage, giver: Host, taker: Host) -> None:
    """One hands a task to another that is not running, and has the answer the next time it runs."""
    report = stage.report
    task = f"Task 5001 from {giver.name}: port the parser's tests; branch parser, tests/parser/ is left to do."
    result = f"Result 5002 by {taker.name}: ported, 41 tests pass, commit 3f1c on branch parser."

    report.section(f"{giver.name} hands a task to {taker.name}, whose host is not running, and leaves")
    handed = follow(
        call("create_mailbox", name=giver.name),
        call("send", to=taker.name, subject="Port the parser's tests", body=task, key=f"5001 {giver.name}"),
    )
    sent = stage.play(giver, handed).conversation()
    stage.check_result(sent, "send", "id", "thread", "to")
    thread = _value(sent, "send", "thread")

    report.section(f"{taker.name} starts, takes it, and answers in two calls")
    work = follow(call("create_mailbox", name=taker.name), call("wait_for_message"), answered(result))
    endpoint = stage.play(taker, work)
    stage.check_mail(endpoint, task, sender=giver.name)
    calls = endpoint.conversation().calls("create_mailbox")
    report.check("one message takes two calls", calls == ["wait_for_message", "send"], calls)

    report.section(f"{giver.name} starts again and has the answer, in the thread of its task")
    back = follow(call("create_mailbox", name=giver.name), call("wait_for_message", thread=thread), acked)
    endpoint = stage.play(giver, back)
    stage.check_mail(endpoint, result, sender=taker.name)
    seen = _value(endpoint.conversation(), "wait_for_message", "messages")
    threads = {each["thread"] for each in seen or []}
    report.check("it is in the thread of the task", threads == {thread}, threads)
    calls = endpoint.conversation().calls("create_mailbox")
    report.check("one message takes two calls", calls == ["wait_for_message", "settle"], calls)


def pool_of_three(stage: Stage) -> None:
    """Three hosts read one pool; one of them dies over its task, and another one does that too."""
    report = stage.report
    report.section(f"Two Claude Codes and a Codex share {_TASKS} tasks; one is killed over its own")
    doomed = _Doomed()
    claude, codex = stage.claude.another("claude-1", _POOL), stage.codex.another("codex-1", _POOL)
    patience = START_SECONDS + TURN_SECONDS
    with plain_client.connected(stage.server, stage.root / "bystander", patience) as boss, ExitStack() as stack:
        boss.call("create_mailbox", {"name": _POOL, "kind": "pool"})
        boss.call("create_mailbox", {"name": "boss"})
        stack.callback(doomed.over.set)
        dying, victim = stack.enter_context(stage.run(stage.claude.another("claude-2", _POOL), doomed.play))
        workers = [(host, *stack.enter_context(stage.run(host, _work))) for host in (claude, codex)]
        waits = [
            each.has_called("wait_for_message", START_SECONDS) for each in (dying, *(each for _, each, _ in workers))
        ]
        report.check("all three wait", all(waits) and victim.ended(_SETTLING_SECONDS) is None, waits)
        for number in range(1, _TASKS + 1):
            boss.call("send", {"to": _POOL, "body": f"Task {number}", "key": f"pool {number}"})
        report.check("one of them has taken a task", doomed.holds.wait(START_SECONDS), doomed.task)
        code = victim.kill()
        answers = _answers(boss, _TASKS)
        boss.call("send", {"to": _POOL, "body": _STOP})
        boss.call("send", {"to": _POOL, "body": _STOP})
        for host, _, process in workers:
            stage.check_end(host, process, TURN_SECONDS)
        left = boss.call("list_inbox", {"mailbox": _POOL})["messages"]
    tasks = sorted(answers)
    report.check("each task is answered", tasks == [f"Task {n}" for n in range(1, _TASKS + 1)], tasks)
    report.check("exactly once", set(answers.values()) == {1} and not left, f"{dict(answers)}, {len(left)} left")
    done = {host.name: _done(endpoint.conversation()) for host, endpoint, _ in workers}
    report.check("both who live have worked", all(done.values()), {name: len(tasks) for name, tasks in done.items()})
    again = [name for name, tasks in done.items() if doomed.task in tasks]
    report.check(f"what was killed by signal {-code} over {doomed.task} went to another", len(again) == 1, again)
    report.note(f"a lease lasted {LEASE_SECONDS} s")
    for host, endpoint, _ in workers:
        calls = Counter(endpoint.conversation().calls("create_mailbox"))
        two = calls["wait_for_message"] == calls["send"] + 1 == len(done[host.name]) + 1
        report.check(f"{host.name} makes two calls a task", two, dict(calls))


def reservation_conflict(stage: Stage) -> None:
    """One has the files that another one wants: it is told so, and git refuses its commit, until they are released."""
    report, holder, other = stage.report, stage.claude, stage.codex
    report.section(f"{holder.name} reserves src/**")
    hold = follow(
        call("create_mailbox", name=holder.name),
        call("reserve", names=["src/**"], ttl=600, note="splitting the parser"),
    )
    held = _value(stage.play(holder, hold).conversation(), "reserve", "reserved")
    until = held[0]["until"] if held else "?"
    report.check("it holds them", until != "?", held)

    report.section(f"{other.name} wants src/a.py: it is told who holds it until when, and git refuses its commit")
    want = follow(call("create_mailbox", name=other.name), call("reserve", names=["src/a.py"]))
    told = _last(stage.play(other, want).conversation(), "reserve")
    report.check("the model is told who and until when", f"{holder.name}@default" in told and until in told, told)
    guard = [*stage.server.command[:-1], "guard"]
    for command in (
        ("git", "init", "--quiet"),
        (*guard, "--install"),
        ("sh", "-c", "mkdir -p src && echo 1 > src/a.py && git add ."),
    ):
        stage.command(*command, **_GIT)
    committer = _GIT | {"MCP_MAILBOX_ADDRESS": other.name}
    commit = ("git", "commit", "--quiet", "--message=first")
    refused = stage.command(*commit, **committer)
    names = f"{holder.name}@default" in refused.stderr and until in refused.stderr
    report.check("git refuses the commit and says the same", refused.returncode != 0 and names, refused.stderr)

    report.section(f"{holder.name} releases; then {other.name} has it, and may commit")
    stage.play(holder, follow(call("create_mailbox", name=holder.name), call("reserve", release=True)))
    got = stage.play(other, want).conversation()
    stage.check_result(got, "reserve", "reserved")
    done = stage.command(*commit, **committer)
    report.check("git commits", done.returncode == 0, done.stderr or "exit code 0")

    report.section(f"{holder.name} wants all of src/ again: now it is the one who is told")
    want_all = follow(call("create_mailbox", name=holder.name), call("reserve", names="src/"))
    told = _last(stage.play(holder, want_all).conversation(), "reserve")
    report.check("the model is told who", f"'src/' is held by {other.name}@default" in told, told)
    stage.play(other, follow(call("create_mailbox", name=other.name), call("reserve", release=True)))


def announcement(stage: Stage) -> None:
    """One tells a channel; a member that is not running hears of it when it starts, a later one reads it back."""
    report, speaker, member = stage.report, stage.claude, stage.codex
    news = "Notice 5003: main is frozen until 18:00."
    join = call("subscribe", channel="#releases")

    report.section(f"{member.name} joins #releases and leaves; {speaker.name} announces something there")
    stage.play(member, follow(call("create_mailbox", name=member.name), join))
    said = follow(
        call("create_mailbox", name=speaker.name), join, call("send", to="#releases", body=news, key="announcement")
    )
    to = _value(stage.play(speaker, said).conversation(), "send", "to")
    report.check("it is stored for one member", [each.get("members") for each in to or []] == [1], to)

    report.section(f"{member.name} starts and hears of it")
    endpoint = stage.play(member, follow(call("create_mailbox", name=member.name), call("wait_for_message"), acked))
    stage.check_mail(endpoint, news, sender=speaker.name)
    seen = _value(endpoint.conversation(), "wait_for_message", "messages")
    channels = {each.get("channel") for each in seen or []}
    report.check("the model sees by which channel", channels == {"#releases@default"}, channels)

    late = member.another("late", "late")
    report.section(f"Another {member.name} joins later, and reads it back")
    replayed = follow(
        call("create_mailbox", name="late"),
        call("subscribe", channel="#releases", since="all"),
        call("wait_for_message"),
        acked,
    )
    stage.check_mail(stage.play(late, replayed), news, sender=speaker.name)


class _Doomed:
    """A worker whose model thinks about its first task for ever."""

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.over = threading.Event()
        self.task = ""

    def play(self, conversation: Conversation) -> Move:
        move = _work(conversation)
        if isinstance(move, Call) and move.tool == "send":
            self.task = str(conversation.mail()["body"])
            self.holds.set()
            self.over.wait()
        return move


def _work(conversation: Conversation) -> Move:
    """Take a task, answer it, take the next: until there are no more."""
    if not conversation.exchanges:
        return Call("create_mailbox", {"name": _POOL})
    last = conversation.exchanges[-1]
    if last.tool == "settle":
        return Say("Done.")
    if last.tool != "wait_for_message" or last.timed_out:
        return Call("wait_for_message", {"timeout": 60, "mailbox": _POOL})
    if not last.value.get("messages"):
        return Say(f"The script cannot go on: {last.result}")
    mail = conversation.mail()
    if mail["body"] == _STOP:
        return Call("settle", {"ids": [mail["id"]], "outcome": "ack", "mailbox": _POOL})
    answer = {"to": mail["from"], "reply_to": mail["id"], "body": f"Done: {mail['body']}", "mailbox": _POOL}
    return Call("send", answer)


def _done(conversation: Conversation) -> list[str]:
    """Return the tasks that a worker has answered."""
    waits = [each.value["messages"][0]["body"] for each in conversation.exchanges if each.value.get("messages")]
    return [body for body in waits if body != _STOP]


def _answers(boss: plain_client.Line, wanted: int) -> Counter[str]:
    """Wait for so many answers, and what comes within a moment after; return how often each task was answered."""
    found: Counter[str] = Counter()
    done: list[str] = []
    while True:
        timeout = 2 * LEASE_SECONDS + 10 if sum(found.values()) < wanted else 0.5
        got: dict[str, Any] = boss.call("wait_for_message", {"timeout": timeout, "ack": done})
        if not got["messages"]:
            return found
        done = [each["id"] for each in got["messages"]]
        found.update(each["body"].removeprefix("Done: ") for each in got["messages"])


def _last(conversation: Conversation, tool: str) -> str:
    """Return what the model was shown last of a tool."""
    return next((each.result for each in reversed(conversation.exchanges) if each.tool == tool), "")


def _value(conversation: Conversation, tool: str, field: str) -> Any:
    """Return that field of a tool's last result that has it; None where there is none."""
    values = [each.value for each in reversed(conversation.exchanges) if each.tool == tool]
    return next((value[field] for value in values if field in value), None)
