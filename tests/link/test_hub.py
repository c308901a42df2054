"""What an edge's client makes of a hub that is on its way out."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from mcp_mailbox.link.hub import Away, Hub

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: a close resets the connection, as the death of its process does where something was not read."""


@contextmanager
def resetting() -> Iterator[int]:
    """Accept connections at that port, and reset each at once."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            connection.close()

    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def test_a_hub_that_resets_a_connection_in_the_moment_it_is_made_is_away_and_nothing_else() -> None:
    """One in fourteen of these was an internal error to whoever waited: the post office's loop is uvloop."""
    told: list[Exception] = []

    async def ask(hub: Hub) -> None:
        try:
            await hub.verb("list_inbox", {})
        except Exception as error:  # noqa: BLE001 - it is judged below
            told.append(error)

    async def main(port: int) -> None:
        async with Hub(f"http://127.0.0.1:{port}", "mbx_x", "e" * 20) as hub:
            for _ in range(10):
                async with anyio.create_task_group() as tasks:
                    for _ in range(50):
                        tasks.start_soon(ask, hub)

    with resetting() as port:
        anyio.run(main, port, backend_options={"use_uvloop": True})
    assert [each for each in told if not isinstance(each, Away)] == []
    assert len(told) == 500
