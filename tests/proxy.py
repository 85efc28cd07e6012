"""A TCP proxy in front of a PostgreSQL server that delays, counts, and breaks connections at a chosen message.

It runs on a thread of its own and reads message boundaries of protocol 3 in both directions, so that "the connection
is lost after COMMIT has run and before its answer arrives" is a place and not a race. A client's message is named
`query SQL`, `execute SQL` (also of a prepared statement), `sync` and so on; `proxy.break_at(action, pattern)` acts at
the first one whose name matches. Nothing is encrypted: `proxy.conninfo` asks for that.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Action = Literal["cut_before", "cut_after", "drop_reply", "half_close", "stall"]
_KINDS = {
    b"B": "bind", b"C": "close", b"D": "describe", b"E": "execute", b"F": "call", b"H": "flush", b"P": "parse",
    b"Q": "query", b"S": "sync", b"X": "terminate", b"c": "copy done", b"d": "copy data", b"f": "copy fail",
    b"p": "password",
}  # fmt: skip
_ASKS = ("query", "sync", "call")  # each is answered by one ReadyForQuery
_NO_ENCRYPTION = (80877103, 80877104)  # what a client sends first if it would like TLS or GSS
_T = TypeVar("_T")


@dataclass(eq=False)
class Break:
    """What happens once, at the first message that matches. `fired` is set when it has happened.

    `cut_before`: the message never reaches the server, and both ends are closed. `cut_after`: the server has answered
    the flush that holds it, which the client never sees, and both ends are closed. `drop_reply`: as `cut_after`, but
    both ends stay open and silent. `half_close`: as `cut_after`, but only the client is told. `stall`: the message
    and what follows waits for `Proxy.resume`.
    """

    action: Action
    pattern: re.Pattern[str]
    fired: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """In front of `host`:`port`; a context manager. Everything but `port` may be changed while it runs.

    `latency` (seconds) is added in each direction. With `watch=False` messages are not looked at: faster, and nothing
    is counted or broken at a message.
    """

    def __init__(self, host: str, port: int, *, latency: float = 0.0, watch: bool = True) -> None:
        self.target = (host, port)  # of connections made from now on
        self.latency = latency
        self.watch = watch
        self.port = 0
        self.links: list[_Link] = []
        self.breaks: list[Break] = []
        self.cut_at_bytes: tuple[Literal["client", "server"], int] | None = None
        self.reset()
        self._listening: asyncio.Server | None = None
        # select() waits for microseconds where epoll rounds up to the next millisecond
        self.loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self.loop.run_forever, name="fault-proxy", daemon=True)

    @classmethod
    def to(cls, conninfo: str, *, latency: float = 0.0, watch: bool = True) -> Self:
        """In front of the server that a connection string names."""
        parts = conninfo_to_dict(conninfo)
        return cls(str(parts["host"]), int(str(parts["port"])), latency=latency, watch=watch)

    def reset(self) -> None:
        """Count from zero again."""
        self.connections = 0
        self.round_trips = 0  # how often a client asked and waited; starting a connection is not one
        self.messages: Counter[str] = Counter()  # the clients', by kind
        self.statements: list[str] = []  # the SQL of every query and execute, in order

    def conninfo(self, conninfo: str, **options: str | int) -> str:
        """`conninfo`, led through this proxy."""
        here = {"host": "127.0.0.1", "port": self.port, "sslmode": "disable", "gssencmode": "disable"}
        return make_conninfo(conninfo, **here, **options)

    def break_at(self, action: Action, pattern: str) -> Break:
        """Do `action` at the first message whose name has `pattern` (a regular expression, whatever the case)."""
        found = Break(action, re.compile(pattern, re.IGNORECASE))
        self.breaks.append(found)
        return found

    def cut_after_bytes(self, count: int, sent_by: Literal["client", "server"]) -> None:
        """Cut the connection that carries the `count`-th byte from now on, right after that byte."""
        self.cut_at_bytes = (sent_by, count)

    def cut(self) -> None:
        """Close every connection at both ends, now."""
        self._run(lambda: _each(self.links, _Link.cut))

    def stall(self) -> None:
        """Hold everything back in both directions, on all connections there are."""
        self._run(lambda: _each(self.links, lambda link: link.hold(True)))

    def resume(self) -> None:
        """Let go what is held back."""
        self._run(lambda: _each(self.links, lambda link: link.hold(False)))

    def refuse(self) -> None:
        """Refuse new connections, as a server that is down does."""
        self._run(self._close)

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._run(self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._close)
        self.cut()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def _run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        async def call() -> _T:
            return await work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    async def _listen(self) -> None:
        self._listening = await self.loop.create_server(lambda: _Link(self).client, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None


async def _each(links: list[_Link], work: Callable[[_Link], None]) -> None:
    for link in list(links):
        work(link)
    await asyncio.sleep(0)  # what was closed is told so


class _End(asyncio.Protocol):
    """One end of a link: what arrives at it goes to `received`; what is written to it waits out the latency."""

    def __init__(self, link: _Link, received: Callable[[bytes], None]) -> None:
        self.proxy, self.link, self.received = link.proxy, link, received
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[tuple[float, bytes | None]] = deque()  # None: the end of what there is
        self.timer: asyncio.TimerHandle | None = None
        self.held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.lost(self)

    def write(self, data: bytes | None) -> None:
        """Send this after what was sent before; None closes the connection."""
        self.waiting.append((self.proxy.loop.time() + self.proxy.latency, data))
        if len(self.waiting) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what is due, and come back for the rest."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        while self.waiting and self.transport and not self.held:
            due, data = self.waiting[0]
            if due > self.proxy.loop.time():
                self.timer = self.proxy.loop.call_at(due, self.flush)
                return
            self.waiting.popleft()
            self.transport.close() if data is None else self.transport.write(data)


class _Link:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client, self.server = _End(self, self.from_client), _End(self, self.from_server)
        self.unread = {self.client: bytearray(), self.server: bytearray()}
        self.started = False
        self.statements: dict[bytes, str] = {}
        self.portals: dict[bytes, str] = {}
        self.asked = self.answered = 0
        self.flushed = False  # and not yet answered
        self.breaking: tuple[Break, int] | None = None  # and the number of the answer that it takes place at
        proxy.connections += 1
        proxy.links.append(self)
        self.connecting = proxy.loop.create_task(self.connect(*proxy.target))

    async def connect(self, host: str, port: int) -> None:
        try:
            await self.proxy.loop.create_connection(lambda: self.server, host, port)
        except OSError:
            self.cut()

    def cut(self) -> None:
        self.connecting.cancel()
        for end in (self.client, self.server):
            if end.transport:
                end.transport.abort()

    def hold(self, held: bool) -> None:
        for end in (self.client, self.server):
            end.held = held
            end.flush()

    def lost(self, end: _End) -> None:
        """One end was closed: the other one is, once it has what is on its way to it."""
        other = self.server if end is self.client else self.client
        end.transport = None
        other.write(None)
        if other.transport is None and self in self.proxy.links:
            self.connecting.cancel()
            self.proxy.links.remove(self)

    def from_client(self, data: bytes) -> None:
        if not self.proxy.watch:
            self.forward(self.server, data)
            return
        passed = bytearray()
        for kind, message in self.messages(self.client, data):
            if not self.started and int.from_bytes(message[4:8]) in _NO_ENCRYPTION:
                self.client.write(b"N")
            elif self.passes_to_server(_KINDS.get(kind, "start"), message):
                passed += message
            else:
                return
        self.forward(self.server, bytes(passed))

    def passes_to_server(self, kind: str, message: bytes) -> bool:
        """Count the message; False if the connection has been cut instead of sending it on."""
        self.started = True
        sql = self.sql(kind, message[5:])
        self.count(kind, sql)
        if self.breaking is None and kind not in ("parse", "bind", "describe", "close"):
            found = next((one for one in self.proxy.breaks if one.pattern.search(f"{kind} {sql}")), None)
            if found:
                self.proxy.breaks.remove(found)
                return self.begin(found, kind)
        return True

    def begin(self, found: Break, kind: str) -> bool:
        match found.action:
            case "cut_before":
                self.cut()
            case "stall":
                self.server.held = True
            case "cut_after" | "drop_reply" | "half_close":
                self.breaking = found, self.asked if kind in _ASKS else self.asked + 1
                return True
        found.fired.set()
        return found.action == "stall"

    def sql(self, kind: str, body: bytes) -> str:
        """The SQL that a message runs; remembers that of prepared statements."""
        first, _, rest = body.partition(b"\0")
        match kind:
            case "query":
                return first.decode()
            case "parse":
                self.statements[first] = rest.partition(b"\0")[0].decode()
            case "bind":
                self.portals[first] = self.statements.get(rest.partition(b"\0")[0], "")
            case "execute":
                return self.portals.get(first, "")
        return ""

    def count(self, kind: str, sql: str) -> None:
        self.proxy.messages[kind] += 1
        if sql:
            self.proxy.statements.append(sql)
        is_waiting = self.asked > self.answered or self.flushed
        if kind in (*_ASKS, "flush") and not is_waiting:
            self.proxy.round_trips += 1
        self.flushed = kind == "flush" or (self.flushed and kind not in _ASKS)
        self.asked += kind in (*_ASKS, "start")

    def from_server(self, data: bytes) -> None:
        if not self.proxy.watch:
            self.forward(self.client, data)
            return
        passed = bytearray()
        for kind, message in self.messages(self.server, data):
            self.flushed = False
            withheld = self.breaking is not None and self.answered >= self.breaking[1] - 1
            self.answered += kind == b"Z"
            passed += b"" if withheld else message
            if withheld and self.breaking and kind == b"Z":
                self.end(self.breaking[0])
        self.forward(self.client, bytes(passed))

    def end(self, broken: Break) -> None:
        """The server has answered what the client is not to know of."""
        match broken.action:
            case "cut_after":
                self.cut()
            case "half_close":
                assert self.client.transport
                self.client.transport.write_eof()
            case _:
                pass
        broken.fired.set()

    def forward(self, end: _End, data: bytes) -> None:
        limit = self.proxy.cut_at_bytes
        if limit and limit[0] == ("client" if end is self.server else "server"):
            left = limit[1] - len(data)
            self.proxy.cut_at_bytes = (limit[0], left) if left > 0 else None
            if left <= 0:
                end.write(data[: limit[1]])
                self.client.write(None)
                self.server.write(None)
                return
        if data:
            end.write(data)

    def messages(self, end: _End, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The whole messages there are now, with their kinds; the first one of a client has none."""
        unread = self.unread[end]
        unread += data
        while True:
            at = 0 if end is self.client and not self.started else 1
            size = at + int.from_bytes(unread[at : at + 4]) if len(unread) >= at + 4 else 0
            if not size or len(unread) < size:
                return
            message = bytes(unread[:size])
            del unread[:size]
            yield message[:at], message
