"""A link between an edge and its hub that can be cut, stopped half open, or slowed to a trickle."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress


class Proxy:
    """Forwards TCP to a port, in threads of its own."""

    def __init__(self) -> None:
        self.target = 0
        """The port to which it leads."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self.passes = threading.Event()
        """Clear: what comes stays where it is, and nobody is told (a connection that is half open)."""
        self.passes.set()
        self.answers = threading.Event()
        """Clear: what the hub says stays where it is, and the hub hears all."""
        self.answers.set()
        self.caught = threading.Event()
        """Set once something stays where it is because of `hold`."""
        self._wanted = b""
        self._free = threading.Event()
        self._free.set()
        self.refuses = False
        """Whether new connections are closed at once."""
        self.trickle = 0.0
        """Seconds between two bytes."""
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close all that is open, and what comes."""
        self.refuses = True
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Let all that is open stay so, and pass nothing, ever; what comes passes (a NAT that was started anew)."""
        self._forgotten |= self._open

    def hold(self, wanted: bytes) -> None:
        """Let nothing pass in which this is, nor what follows it on its connection; all else passes."""
        self.caught.clear()
        self._free.clear()
        self._wanted = wanted

    def _let_go(self) -> None:
        self._wanted = b""
        self._free.set()

    def mend(self) -> None:
        self.refuses = False
        self._let_go()
        self.passes.set()
        self.answers.set()

    def end(self) -> None:
        self._let_go()
        self.passes.set()
        self.answers.set()
        self.trickle = 0
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._threads:
            each.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(near,)))
                self._threads[-1].start()

    def _serve(self, near: socket.socket) -> None:
        with ExitStack() as stay:
            stay.enter_context(near)
            if self.refuses:
                return
            with suppress(OSError):
                far = stay.enter_context(socket.create_connection(("127.0.0.1", self.target)))
                self._open |= {near, far}
                back = threading.Thread(target=self._pump, args=(far, near, self.answers))
                back.start()
                self._pump(near, far, self.passes)
                back.join()
                self._open -= {near, far}

    def _pump(self, one: socket.socket, other: socket.socket, way: threading.Event) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if self._wanted and self._wanted in data:
                    self.caught.set()
                    self._free.wait()
                self.passes.wait()
                way.wait()
                if one in self._forgotten:
                    continue
                for piece in (bytes([byte]) for byte in data) if self.trickle else (data,):
                    other.sendall(piece)
                    time.sleep(self.trickle)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
