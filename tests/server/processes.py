"""`clew serve` and `clew dev` as processes of their own, on real ports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds

AGENT = """
from typing import TypedDict

from clew.graph import START, StateGraph

State = TypedDict("State", {"text": str})
builder = StateGraph(State)
builder.add_node("say", lambda state: {"text": state["text"] + "!"})
builder.add_edge(START, "say")
graph = builder.compile()
"""


class Process:
    """A command of clew's that runs, and the lines that it printed so far."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        self.child = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "clew.cli", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **variables},
        )
        self.url = ""

    def serving(self) -> str:
        """Wait until it serves (again); gives where."""
        for line in self.child.stdout or ():
            if line.startswith("serving "):
                self.url = line.split()[-1]
                return self.url
        raise AssertionError(f"it does not serve: {self.ended()}")

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end: the status, and what was printed."""
        out, err = self.child.communicate(timeout=PATIENCE)
        return self.child.returncode, out, err

    def stopped_listening(self) -> None:
        """Wait until no connection is taken."""
        host, port = self.url.removeprefix("http://").split(":")
        wait_until(lambda: not answers((host, int(port))))


@contextlib.contextmanager
def process(folder: Path, *arguments: str, **variables: str) -> Iterator[Process]:
    started = Process(folder, *arguments, **variables)
    try:
        yield started
    finally:
        if started.child.poll() is None:
            started.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.child.wait(10)
        started.child.kill()
        started.child.communicate()


def wait_until(is_so, patience: float = PATIENCE) -> None:
    """Look until it is so; fails after `patience` seconds."""
    last = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < last, "it did not come to be so"
        time.sleep(0.02)


def answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1):
            return True
    except OSError:
        return False


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, timeout=PATIENCE)
