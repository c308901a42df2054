"""Agents for one test: real SDK clients on real relays, and the post office that their home shares.

Every process gets an environment built from nothing. Waiting is for an event under a deadline; where the operating
system has none (a process that is about to start), a condition is polled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from site import getsitepackages
from types import TracebackType
from typing import Any, Literal, Protocol

import anyio
import anyio.abc
import anyio.to_thread
import httpx2
import mcp_types as types
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client import Client
from mcp.client._transport import TransportStreams
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared.inbound import encode_header_value
from mcp.shared.message import SessionMessage

import mcp_mailbox
from mcp_mailbox import frames, rendezvous
from tests.relay.world import DEADLINE, Host, ended

PACKAGES = Path(mcp_mailbox.__file__).parents[1]
RELAY = ["-P", "-m", "mcp_mailbox", "stdio"]
PATIENCE = 40.0
"""Seconds after which an agent's test has failed."""
SOON = 1.5
"""Seconds within which somebody who waits is woken, on a machine that is busy with two other tests at a time."""

Era = Literal["2025-11-25", "2026-07-28"]
LEGACY: Era = "2025-11-25"
MODERN: Era = "2026-07-28"
ERAS: tuple[Era, ...] = (LEGACY, MODERN)
_MODES = {LEGACY: "legacy", MODERN: "auto"}

Json = dict[str, Any]

# The SDK warns of every call that 2026-07-28 has no more; half of our tests are about these.
both_eras = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")]


class Home:
    """A directory with a store, and the post office that its first relay starts."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.path = directory / "h"
        self.directory = directory
        self.settings = settings

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "HOME": str(self.directory),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(PACKAGES),
            "MCP_MAILBOX_HOME": str(self.path),
            **self.settings,
            **more,
        }

    def status(self) -> Json:
        answer = rendezvous.ask(str(self.path), frames.STATUS)
        assert answer is not None, f"no office; its log: {self.log()}"
        found: Json = json.loads(answer)
        return found

    def signal_office(self, number: int) -> None:
        os.kill(self.status()["pid"], number)

    def kill_office(self, pid: int | None = None) -> None:
        """Kill it, and return once it has ended."""
        pid = pid or self.status()["pid"]
        descriptor = os.pidfd_open(pid)
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended(descriptor)

    async def readers(self, count: int) -> None:
        """Return once the office serves exactly so many hosts."""
        await until(lambda: self.status()["readers"] == count, f"{count} readers")

    def log(self) -> str:
        with suppress(FileNotFoundError):
            return (self.path / "office.log").read_text()
        return ""

    def host(self, **env: str) -> Host:
        """Start a relay whose host writes lines by hand."""
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, *RELAY],
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=subprocess.PIPE,
            env=self.environment(**env),
        )
        os.close(write)
        return Host(process, read)

    def connect(self, environment: dict[str, str], python: str, mailbox: str | None, era: Era) -> Link:
        """Return what an agent's client is started with."""
        del mailbox, era
        return Relay(environment, python)

    def end(self) -> None:
        if rendezvous.office_lives(str(self.path)):
            rendezvous.stop(str(self.path))


class Served(Home):
    """A home whose post office is `mcp-mailbox serve`: its agents come over HTTP."""

    def __init__(self, directory: Path, *arguments: str, program: str | None = None, **settings: str) -> None:
        super().__init__(directory, **settings)
        self._arguments = arguments
        self._program = ["-m", "mcp_mailbox"] if program is None else ["-c", program]
        self._output = directory / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, port: int = 0) -> Served:
        """Start it, and return once it serves."""
        command = [sys.executable, "-P", *self._program, "serve", "--port", str(port), *self._arguments]
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(command, env=self.environment(), stdout=output, stderr=output)
        deadline = time.monotonic() + DEADLINE
        while not self.serves():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        return self

    def serves(self) -> bool:
        """Tell whether it does; not yet while the office of an agent that was quicker leaves for it."""
        try:
            answer = rendezvous.ask(str(self.path), frames.STATUS)
        except rendezvous.Refused as refused:
            if refused.code != "leaving":
                raise
            return False
        return answer is not None and bool(json.loads(answer).get("http"))

    @property
    def url(self) -> str:
        url: str = self.status()["http"]["url"]
        return url

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].partition("/")[0])

    @property
    def token(self) -> str:
        return (self.path / "token").read_text().strip()

    def connect(self, environment: dict[str, str], python: str, mailbox: str | None, era: Era) -> Link:
        del python
        space = environment["MCP_MAILBOX_SPACE"]
        token = environment.get("TOKEN", self.token)
        headers = {"Authorization": f"Bearer {token}", "Mailbox-Space": encode_header_value(space)}
        if era == MODERN and mailbox is not None:  # it has no sessions that could remember what was opened
            headers["Mailbox-Address"] = encode_header_value(mailbox)
        if given := environment.get("MCP_MAILBOX_ADDRESS"):
            headers["Mailbox-Address"] = encode_header_value(given)
        return Door(self.url, headers)

    def log(self) -> str:
        return self._output.read_text()

    def end(self) -> None:
        super().end()
        if self.process is not None:
            self.process.wait(DEADLINE)


class Edged(Home):
    """A home whose mail is kept by a hub, which is another home's `mcp-mailbox serve`."""

    def __init__(self, directory: Path, hub: Served, url: str | None = None, **settings: str) -> None:
        place = {"MCP_MAILBOX_HUB": url or hub.url, "MCP_MAILBOX_TOKEN": hub.token}
        super().__init__(directory, **(place | settings))
        self.hub = hub


class Link(Protocol):
    """An SDK transport that a test may break."""

    async def __aenter__(self) -> TransportStreams: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...


class Door:
    """An SDK transport over HTTP."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._running = self._run()

    async def __aenter__(self) -> TransportStreams:
        return await self._running.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._running.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[TransportStreams]:
        timeout = httpx2.Timeout(DEADLINE)
        async with (
            httpx2.AsyncClient(headers=self._headers, timeout=timeout, trust_env=False) as http,
            streamable_http_client(self._url, http_client=http) as streams,
        ):
            yield streams


class Relay:
    """An SDK transport: the relay's process, started as a host starts it, but with an environment of its own."""

    def __init__(self, environment: dict[str, str], python: str = sys.executable) -> None:
        self._environment = environment
        self._command = [python, *RELAY]
        self._process: anyio.abc.Process | None = None
        self._running = self._run()

    @property
    def process(self) -> anyio.abc.Process:
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> TransportStreams:
        return await self._running.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._running.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[TransportStreams]:
        self._process = await anyio.open_process(self._command, env=self._environment, stderr=None)
        incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, incoming)
            tasks.start_soon(self._write, outgoing)
            try:
                yield read, write
            finally:
                with anyio.CancelScope(shield=True):
                    for stream in (read, write, incoming, outgoing):
                        stream.close()
                    await self._leave()
                tasks.cancel_scope.cancel()

    async def _leave(self) -> None:
        await self.close_stdin()
        with anyio.move_on_after(DEADLINE) as late:
            await self.process.wait()
        if late.cancelled_caught:
            self.process.kill()
        await self.process.aclose()
        assert not late.cancelled_caught, "the relay does not leave"

    async def close_stdin(self) -> None:
        assert self.process.stdin
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            await self.process.stdin.aclose()

    async def _read(self, incoming: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        assert self.process.stdout
        rest = b""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for block in self.process.stdout:
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await incoming.send(SessionMessage(message))
        incoming.close()

    async def _write(self, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert self.process.stdin
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            async for item in outgoing:
                line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self.process.stdin.send(line.encode() + b"\n")


class Agent:
    """An MCP client with a mailbox, as a host plays it."""

    def __init__(self, client: Client, link: Link, heard: Heard) -> None:
        self.client = client
        self._link = link
        self.heard = heard
        self.address = ""

    @property
    def relay(self) -> Relay:
        assert isinstance(self._link, Relay)
        return self._link

    @property
    def remembers(self) -> bool:
        """Whether the mailbox that it opens is its own from then on: on HTTP only a session remembers that."""
        return isinstance(self._link, Relay) or self.client.protocol_version == LEGACY

    def advice(self, made: Json) -> Json:
        """What create_mailbox says besides, where nothing remembers."""
        if self.remembers:
            return {}
        assert f"mailbox='{made['address']}'" in made["hint"]
        return {"hint": made["hint"]}

    @property
    def uri(self) -> str:
        return f"mailbox:{self.address}"

    async def result(self, tool: str, /, **arguments: object) -> types.CallToolResult:
        """Call it; `from_` is the parameter `from`."""
        given = {name.rstrip("_"): value for name, value in arguments.items()}
        result = await self.client.call_tool(tool, given)
        assert isinstance(result, types.CallToolResult)
        [text] = result.content
        assert isinstance(text, types.TextContent)
        assert json.loads(text.text) == result.structured_content
        return result

    async def call(self, tool: str, /, **arguments: object) -> Json:
        """Return what the model sees."""
        result = await self.result(tool, **arguments)
        assert not result.is_error, result.structured_content
        return result.structured_content or {}

    async def refused(self, tool: str, /, **arguments: object) -> Json:
        """Return the refusal that the model sees."""
        result = await self.result(tool, **arguments)
        assert result.is_error, result.structured_content
        problem = result.structured_content or {}
        assert problem["error"]
        assert problem["message"]
        assert problem["hint"], "a refusal says what to do"
        return problem

    async def send(self, to: str | list[str], body: object = "hello", **more: object) -> Json:
        return await self.call("send", to=to, body=body, **more)

    async def wait(self, timeout: float = 20, **more: object) -> list[Json]:  # noqa: ASYNC109 - the tool's parameter
        """Return the messages that came."""
        messages: list[Json] = (await self.call("wait_for_message", timeout=timeout, **more))["messages"]
        return messages

    async def wait_one(self, timeout: float = 20, **more: object) -> Json:  # noqa: ASYNC109 - as above
        [message] = await self.wait(timeout, **more)
        return message

    async def bodies(self) -> list[str]:
        """Return what is listed, without taking it."""
        return [each["preview"] for each in (await self.call("list_inbox", limit=100))["messages"]]

    async def resource(self, uri: str) -> Json:
        """Read a resource of ours."""
        [content] = (await self.client.read_resource(uri)).contents
        assert isinstance(content, types.TextResourceContents)
        assert (str(content.uri), content.mime_type) == (uri, "application/json")
        found: Json = json.loads(content.text)
        return found

    async def lists(self, state: str) -> None:
        """Return once the first message listed is in that state."""
        while (await self.call("list_inbox"))["messages"][0].get("state") != state:  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.005)

    @asynccontextmanager
    async def watching(self, uri: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Subscribe as the era has it; yields what returns at the next update of that URI."""
        if self.client.protocol_version == LEGACY:
            await self.client.subscribe_resource(uri)
            yield lambda: self.heard.update(uri)
        else:
            async with self.client.listen(resource_subscriptions=[uri]) as stream:

                async def update() -> None:
                    async for event in stream:
                        assert event == ResourceUpdated(uri)
                        return
                    raise AssertionError("the stream ended")

                yield update

    async def is_waiting(self) -> None:
        """Return once the office has come so far with what was asked before: both go through the store's one writer."""
        await self.call("create_mailbox")

    def kill(self) -> None:
        """Kill the host and its relay at once: nobody says goodbye."""
        self.relay.process.kill()


class Raw:
    """A host that writes its own lines (2025-11-25), for what the SDK's client would never do. It blocks."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.asked = 0
        self.passed: list[Json] = []
        """What was read while another answer was awaited: answers come in the order in which they are ready."""

    def greet(self) -> None:
        """Do the handshake."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        self.write(self.line("initialize", params))
        assert self.answer()["serverInfo"]["name"] == "mcp-mailbox"
        self.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode())

    def line(self, method: str, params: object = None) -> bytes:
        """Spell a request under the next id."""
        self.asked += 1
        return json.dumps({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params or {}}).encode()

    def tool(self, tool: str, /, **arguments: object) -> bytes:
        """Spell a tool call under the next id."""
        return self.line("tools/call", {"name": tool, "arguments": arguments})

    def cancellation(self) -> bytes:
        """Spell the cancellation of the last request."""
        params = {"requestId": self.asked}
        return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).encode()

    def write(self, *lines: bytes) -> None:
        """Write lines at once."""
        self.host.send_raw(b"".join(line + b"\n" for line in lines))

    def message(self, wanted: object) -> Json:
        """Return the next answer under that id; what else comes is kept for who asks for it."""
        while (found := next((answer for answer in self.passed if answer.get("id") == wanted), None)) is None:
            if "method" not in (message := self.host.line()):
                self.passed.append(message)
        self.passed.remove(found)
        return found

    def answer(self) -> Json:
        """Return the result of the last request."""
        message = self.message(self.asked)
        assert "result" in message, message
        result: Json = message["result"]
        return result

    def call(self, tool: str, /, **arguments: object) -> Json:
        """Call a tool and return what the model sees."""
        self.write(self.tool(tool, **arguments))
        result = self.answer()
        assert not result.get("isError"), result
        content: Json = result["structuredContent"]
        return content


class Heard:
    """The notifications that a client got outside any request."""

    def __init__(self) -> None:
        self.all: list[types.ServerNotification] = []
        self._changed = anyio.Event()

    async def handle(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ServerNotification):
            self.all.append(message)
            self._changed.set()
            self._changed = anyio.Event()

    async def take(self, wanted: Callable[[types.ServerNotification], bool]) -> types.ServerNotification:
        """Return the first that is wanted, and forget it."""
        while True:
            for message in self.all:
                if wanted(message):
                    self.all.remove(message)
                    return message
            await self._changed.wait()

    async def update(self, uri: str) -> None:
        await self.take(
            lambda message: isinstance(message, types.ResourceUpdatedNotification) and str(message.params.uri) == uri
        )


class Town:
    """A space of its own in a home that may be shared: names in one test are free for the next."""

    def __init__(self, home: Home, space: str) -> None:
        self.home = home
        self.space = space
        self._hosts: list[Host] = []

    def end(self) -> None:
        for host in self._hosts:
            host.end()

    @asynccontextmanager
    async def agent(
        self,
        mailbox: str | None = None,
        era: Era = LEGACY,
        *,
        env: dict[str, str] | None = None,
        client: str = "test",
        python: str = sys.executable,
        **callbacks: Any,
    ) -> AsyncIterator[Agent]:
        """Start a host; with `mailbox` it opens that mailbox first."""
        link = self.home.connect(self.environment(**(env or {})), python, mailbox, era)
        heard = Heard()
        connection = Client(
            link,
            mode=_MODES[era],
            message_handler=heard.handle,
            client_info=types.Implementation(name=client, version="1"),
            cache=None,
            **callbacks,
        )
        leaving = False
        try:
            with anyio.fail_after(PATIENCE):
                async with connection:
                    assert connection.protocol_version == era
                    agent = Agent(connection, link, heard)
                    if mailbox is not None:
                        agent.address = (await agent.call("create_mailbox", name=mailbox))["address"]
                    yield agent
                    leaving = True
        except (BaseExceptionGroup, anyio.ClosedResourceError) as error:
            sole = _sole(error)
            if not (leaving and isinstance(sole, anyio.ClosedResourceError)):
                raise sole from None
            # The SDK's client over HTTP: it has closed its stream, and is answered what it had cancelled.

    def environment(self, **env: str) -> dict[str, str]:
        return self.home.environment(MCP_MAILBOX_SPACE=self.space, **env)

    def host(self, **env: str) -> Host:
        self._hosts.append(self.home.host(MCP_MAILBOX_SPACE=self.space, **env))
        return self._hosts[-1]

    @asynccontextmanager
    async def pair(
        self, era: Era = LEGACY, first: str = "alice", second: str = "bob"
    ) -> AsyncIterator[tuple[Agent, Agent]]:
        """Start two hosts with a mailbox each, at the same time."""
        async with self.agents((first, era), (second, era)) as (one, other):
            yield one, other

    @asynccontextmanager
    async def agents(self, *wanted: tuple[str | None, Era]) -> AsyncIterator[list[Agent]]:
        """Start hosts at the same time; they leave one after another. A mailbox of several is a pool."""
        holders = [self.agent(mailbox, era) for mailbox, era in wanted]
        names = [name for name, _ in wanted]
        async with _all(holders) as found:
            for agent, name in zip(found, names, strict=True):
                if name is not None and names.count(name) > 1:
                    await agent.call("create_mailbox", name=name, kind="pool", share=10)
            yield found


@asynccontextmanager
async def _all(holders: Sequence[AbstractAsyncContextManager[Agent]]) -> AsyncIterator[list[Agent]]:
    # A client's task group must be left by the task that entered it, so they are entered in order.
    if not holders:
        yield []
        return
    async with holders[0] as first, _all(holders[1:]) as others:
        yield [first, *others]


def _sole(error: BaseException) -> BaseException:
    """Take a lone failure out of the task groups that it went through, so that a test shows what failed."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def installation(directory: Path, package: Path) -> str:
    """Install the package that stands there into a virtual environment of its own; return its interpreter."""
    site = directory / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    (site / "all.pth").write_text(f"{package}\n" + "\n".join(getsitepackages()) + "\n")
    real = Path(sys.executable).resolve()
    (directory / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    python = directory / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(real)
    return str(python)


async def until(holds: Callable[[], bool], what: str) -> None:
    """Return once it holds; for what gives no event."""
    with anyio.move_on_after(DEADLINE):
        while not await anyio.to_thread.run_sync(holds):  # noqa: ASYNC110 - see above
            await anyio.sleep(0.005)
        return
    raise AssertionError(f"in vain: {what}")


@asynccontextmanager
async def asking(ask: Callable[[], Awaitable[Any]]) -> AsyncIterator[Asked]:
    """Ask in the background for as long as the block lasts; it is cancelled at the end."""
    asked = Asked(ask)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked.run)
        await anyio.wait_all_tasks_blocked()  # it has been written
        yield asked
        tasks.cancel_scope.cancel()


class Asked:
    """A request under way."""

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self._ask = ask
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._answer: Any = None
        self._error: Exception | None = None

    async def run(self) -> None:
        with self._scope:
            try:
                self._answer = await self._ask()
            except Exception as error:  # noqa: BLE001 - whoever asks for the answer gets it
                self._error = error
            self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    async def answer(self) -> Any:
        await self._done.wait()
        if self._error:
            raise self._error
        return self._answer

    def cancel(self) -> None:
        """Let the SDK cancel the request as a host does."""
        self._scope.cancel()
