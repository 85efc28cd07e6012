"""What these tests kill and look into: replicas as processes, a proxy in front of them, and what they leave behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import RunNotFoundError
from clew.storage import runs
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.session import LogSession
from tests.faults.ledger import Ledger
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 15
T = TypeVar("T")


class Zygote:
    """Forks replicas."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service_faults.zygote"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def fork(self, replica: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(replica) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(SECONDS)
        self.process.stdout.close()


class Replica:
    """One process of the service; it keeps its port over all its lives."""

    def __init__(self, house: House, **settings: Any) -> None:
        self.house = house
        self.settings = settings
        self.port = free_port()
        self.pid = 0
        self._life = -1

    def start(self, failpoints: str = "", **settings: Any) -> Replica:
        """Start it, and wait until it answers or, with failpoints, is dead."""
        house = self.house
        self.pid = house.zygote.fork(
            {
                "database": house.database, "ledger": str(house.ledger.path), "log": str(house.folder / "log"),
                "port": self.port, "failpoints": failpoints, **self.settings, **settings,
            }
        )  # fmt: skip
        self._life = os.pidfd_open(self.pid)
        deadline = time.monotonic() + SECONDS
        while not self.is_gone(0.005):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            assert time.monotonic() < deadline, house.said()
        assert failpoints, house.said()
        return self

    def is_gone(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, within some seconds."""
        return bool(select.select([self._life], [], [], seconds)[0])

    def joined(self) -> None:
        """Wait until it has ended by itself."""
        assert self.is_gone(SECONDS), self.house.said()
        os.close(self._life)
        self._life = -1

    def send(self, number: signal.Signals) -> None:
        if self._life >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._life, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._life >= 0:
            self.send(signal.SIGKILL)
            self.joined()

    def stop(self) -> None:
        """SIGTERM, and wait until it has gone away by itself."""
        self.send(signal.SIGTERM)
        self.joined()

    def client(self, **settings: Any) -> httpx.Client:
        return self.house.client(self.port, **settings)


class House:
    """A database, its ledger, and the replicas on it."""

    def __init__(self, zygote: Zygote, folder: Path, database: str) -> None:
        self.zygote = zygote
        self.folder = folder
        self.database = database
        self.ledger = Ledger(folder / "ledger")
        self.replicas: list[Replica] = []
        self._clients: list[httpx.Client] = []
        self._saver: Any = None
        self._numbers = itertools.count(1)

    def replica(self, **settings: Any) -> Replica:
        """A replica that is not started yet."""
        self.replicas.append(Replica(self, **settings))
        return self.replicas[-1]

    def client(self, port: int, **settings: Any) -> httpx.Client:
        """A client of what listens at a port."""
        limits = {"base_url": f"http://127.0.0.1:{port}", "timeout": SECONDS, "trust_env": False}
        self._clients.append(httpx.Client(**{**limits, **settings}))
        return self._clients[-1]

    def file(self) -> Path:
        """A file that is not there yet."""
        return self.folder / f"file-{next(self._numbers)}"

    def said(self) -> str:
        """What the replicas have logged."""
        log = self.folder / "log"
        return log.read_text()[-6000:] if log.exists() else ""

    def close(self) -> None:
        for replica in self.replicas:
            replica.send(signal.SIGCONT)
            replica.kill()
        for client in self._clients:
            client.close()
        if self._saver is not None:
            self._saver.__exit__(None, None, None)

    # What is left in the tables

    @property
    def saver(self) -> Any:
        if self._saver is None:
            opened: Any = SqliteSaver if self.database.endswith(".db") else PostgresSaver
            self._saver = opened.from_conn_string(self.database)
            self._opened = self._saver.__enter__()
        return self._opened

    def do(self, steps: Callable[[], Steps[T]]) -> T:
        saver = self.saver
        session = LogSession(saver, "house", saver.codec(frozenset()), saver.tenant)
        return saver.run(LogOp(session, steps, kind="read"))

    def run(self, run_id: str) -> runs.RunRow | None:
        """A run's row."""
        try:
            return self.do(lambda: runs.find_run(self.saver.place("x"), run_id, None))
        except RunNotFoundError:
            return None

    def status(self, run_id: str) -> str | None:
        found = self.run(run_id)
        return None if found is None else found.status

    def events(self, run_id: str) -> list[tuple[int, str, bytes]]:
        """All that a run has shown."""
        row = self.run(run_id)
        assert row is not None
        return self.do(lambda: runs.list_events(self.saver.place(row.thread), run_id, 0, 10_000))

    def steps(self, thread: str) -> list[tuple[str | None, str, int]]:
        """The thread's checkpoints, newest first: run, source and step."""
        config = {"configurable": {"thread_id": thread}}
        return [
            (found.metadata.get("run_id"), found.metadata["source"], found.metadata["step"])
            for found in self.saver.list(config)
        ]

    # What nodes have done

    def effects(self, run_id: str | None = None) -> Counter[str]:
        """How often each node had its effect."""
        return Counter(line["node"] for line in self.ledger.lines("ran") if run_id in (None, line["run"]))

    def wait_for(self, kind: str, node: str, count: int = 1, run_id: str | None = None) -> None:
        """Wait until nodes have noted something that often."""

        def has_come() -> bool:
            found = [line for line in self.ledger.lines(kind) if line["node"] == node and run_id in (None, line["run"])]
            return len(found) >= count

        self.until(has_come)

    def until(self, holds: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """Wait until something holds that only looking can tell."""
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)
        return found

    def ended(self, run_id: str, seconds: float = SECONDS) -> str:
        """Wait until a run has ended; gives its status."""

        def over() -> str | None:
            status = self.status(run_id)
            return status if status not in ("pending", "running") else None

        return self.until(over, seconds)


class RoundRobin:
    """A TCP proxy: each connection goes to the next port that takes one."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._turns = itertools.count()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        self._is_over = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RoundRobin:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                link, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(link,), daemon=True).start()

    def _join(self, link: socket.socket) -> None:
        first = next(self._turns)
        for turn in range(len(self.ports)):
            try:
                other = socket.create_connection(("127.0.0.1", self.ports[(first + turn) % len(self.ports)]))
            except OSError:
                continue
            back = threading.Thread(target=_pump, args=(other, link), daemon=True)
            back.start()
            _pump(link, other)
            back.join()
            other.close()
            break
        link.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
    if source.fileno() >= 0:
        with contextlib.suppress(OSError):
            source.shutdown(socket.SHUT_RD)


# What a client does


def new_thread(client: httpx.Client) -> str:
    answer = client.post("/threads", json={})
    assert answer.status_code == 200, answer.text
    return answer.json()["thread_id"]


def new_run(
    client: httpx.Client, thread: str, graph: str = "row", key: str | None = None, **body: Any
) -> httpx.Response:
    """Ask for a run."""
    given = {"assistant_id": graph, "input": {"log": []}, "stream_resumable": True, **body}
    return client.post(f"/threads/{thread}/runs", json=given, headers={} if key is None else {"idempotency-key": key})


def made(answer: httpx.Response) -> str:
    """The id of the run that was asked for."""
    assert answer.status_code == 200, answer.text
    return answer.json()["run_id"]


Sent = tuple[str, Any, str | None]


def read_stream(client: httpx.Client, thread: str, run_id: str, after: str = "-1") -> Iterator[Sent]:
    """Name, data and id of each event; ends with the connection."""
    url = f"/threads/{thread}/runs/{run_id}/stream"
    with client.stream("GET", url, headers={"last-event-id": after}) as answer:
        assert answer.status_code == 200, answer.read()
        yield from frames(answer)


def frames(answer: httpx.Response) -> Iterator[Sent]:
    name, data, id = "", "", None
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif field == "id":
            id = value
        elif not line and name:
            yield name, json.loads(data), id
            name, data, id = "", "", None


def follow(client: httpx.Client, thread: str, run_id: str, seconds: float = SECONDS) -> list[Sent]:
    """Read a run's stream to its end, coming back with `Last-Event-ID` whenever it breaks off."""
    seen: list[Sent] = []
    last = "-1"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            for name, data, id in read_stream(client, thread, run_id, last):
                seen.append((name, data, id))
                last = id or last
                if name == "end":
                    return seen
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"the stream of {run_id} did not end: {seen[-3:]}")


def updates(seen: list[Sent]) -> list[str]:
    """The nodes whose updates were shown."""
    return [node for name, data, _ in seen if name == "updates" for node in data if node != "__metadata__"]
