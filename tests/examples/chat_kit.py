"""What the chat service is tested with: real processes of it, a model that can be held, and a proxy in front."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30
KEYS = {"ada": "key-of-ada", "bob": "key-of-bob"}


class Model(socketserver.ThreadingTCPServer):
    """A model on a port of its own: it answers a line with "re: " and that line, once `gate` is open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.gate = threading.Event()
        self.gate.set()
        self.is_down = False  # then it hangs up without a word
        self.asked: list[str] = []
        self.changed = threading.Condition()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def wait_for(self, count: int) -> None:
        """Wait until it was asked that often."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, SECONDS), self.asked


class _Asked(socketserver.StreamRequestHandler):
    server: Model

    def handle(self) -> None:
        line = self.rfile.readline()
        with self.server.changed:
            self.server.asked.append(line.decode().strip())
            self.server.changed.notify_all()
        self.server.gate.wait(SECONDS)
        if self.server.is_down:
            return
        try:
            self.wfile.write(b"re: " + line)
        except OSError:  # who asked was killed
            pass


class Replica:
    """One process of the service, in `folder`; the nodes' log lines of all its lives are in `folder`/ledger."""

    def __init__(self, folder: Path, model: Model, database: str = "") -> None:
        self.folder = folder
        self.model = model
        self.database = database
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        (folder / "log.json").write_text(json.dumps(_logging(folder / "ledger")))

    def start(self, failpoints: str = "") -> Replica:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "uvicorn", "tests.examples.chat_replica:app", "--port", "0"]
        path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *sys.path])
        own = {
            "API_KEYS": " ".join(f"{user}={key}" for user, key in {**KEYS, "keyless": ""}.items()),
            "CLEW_FAILPOINTS": failpoints,
            "DATABASE_URL": self.database,
            "MODEL_PORT": str(self.model.port),
            "PYTHONPATH": path,
        }
        self.process = subprocess.Popen(
            [*command, "--log-config", "log.json"],
            cwd=self.folder,
            env={**os.environ, **own},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        said: list[str] = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"running on http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError("".join(said))
        threading.Thread(target=_read_on, args=(self.process.stderr,), daemon=True).start()
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.join()

    def join(self) -> None:
        """Wait for a process that kills itself."""
        if self.process is not None:
            assert self.process.wait(SECONDS) == -signal.SIGKILL
            self.process = None


@contextmanager
def running(tmp_path: Path, *databases: str) -> Iterator[tuple[Model, list[Replica]]]:
    """A model, and a replica on each database ("": SQLite), not started yet."""
    with Model() as model:
        threading.Thread(target=model.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        replicas = [Replica(folder(tmp_path, number), model, name) for number, name in enumerate(databases)]
        try:
            yield model, replicas
        finally:
            model.gate.set()
            for replica in replicas:
                replica.kill()
            model.shutdown()


def _read_on(pipe: IO[str]) -> None:
    """Read to the end: a pipe that is full would stop who writes."""
    with pipe:
        pipe.read()


def folder(tmp_path: Path, number: int) -> Path:
    made = tmp_path / f"replica-{number}"
    made.mkdir()
    return made


def ledger(*replicas: Replica) -> list[tuple[int, str, str]]:
    """What nodes have done: process, node, message."""
    lines = [line for replica in replicas for line in (replica.folder / "ledger").read_text().splitlines()]
    return [(int(pid), node, message) for pid, node, message in map(str.split, lines)]


class Client:
    """A user's client of what listens at `where`, a replica or a proxy."""

    def __init__(self, where: Any, user: str = "ada") -> None:
        self.where = where
        self.headers = {"X-API-Key": KEYS[user]}

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.where.port}{path}"
        with httpx.Client(headers=self.headers, timeout=SECONDS, verify=False, trust_env=False) as client:
            return client.request(method, url, **options)

    def say(self, message_id: str, message: str, thread_id: str | None = None) -> httpx.Response:
        body = {"message": message, "message_id": message_id, "thread_id": thread_id}
        return self("POST", "/chat", json=body)

    def said(self, thread_id: str) -> list[str]:
        """What the messages of a thread say."""
        return [message["content"] for message in self("GET", f"/threads/{thread_id}").json()["messages"]]


@contextmanager
def in_background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class RoundRobin(ThreadingHTTPServer):
    """Each request goes to the next replica that takes connections; 502 where one dies in the middle of it."""

    daemon_threads = True

    def __init__(self, replicas: Sequence[Replica]) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.replicas = replicas
        self.turns = itertools.cycle(replicas)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def __enter__(self) -> RoundRobin:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Forward(BaseHTTPRequestHandler):
    server: RoundRobin

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for _ in self.server.replicas:
            link = http.client.HTTPConnection("127.0.0.1", next(self.server.turns).port, timeout=SECONDS)
            try:
                link.connect()
            except ConnectionRefusedError:
                continue
            try:
                link.request(self.command, self.path, body, dict(self.headers.items()))
                answer = link.getresponse()
                self.reply(answer.status, answer.read())
            except (OSError, http.client.HTTPException):
                self.reply(502, b"")
            finally:
                link.close()
            return
        self.reply(502, b"")

    do_GET = do_POST = do_PATCH = do_DELETE = forward  # noqa: N815 - the names that http.server calls

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _logging(ledger: Path) -> dict[str, Any]:
    """uvicorn's lines to stderr; the nodes' to a file, each with its process and written before the node ends."""
    return {
        "version": 1,
        "formatters": {"ledger": {"format": "%(process)d %(message)s"}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler"},
            "ledger": {"class": "logging.FileHandler", "filename": str(ledger), "formatter": "ledger"},
        },
        "loggers": {
            "uvicorn": {"handlers": ["stderr"], "level": "INFO"},
            "uvicorn.access": {"level": "WARNING"},
            "chat": {"handlers": ["ledger"], "level": "INFO"},
        },
    }
