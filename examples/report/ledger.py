"""A file outside of the database that says which node really ran, in which process.

Each line is written and flushed to disk before the node goes on, so the file is the truth about what a killed process
did, whatever the database says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` ("summarise: tutorial.md") was started or finished by the process `worker`."""

    worker: int
    what: str
    finished: bool


class Ledger:
    """The ledger at `path`, for one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ran: set[str] = set()

    @contextmanager
    def entry(self, what: str) -> Iterator[None]:
        """Around the work of one node."""
        self.ran.add(what)
        self._append(what, finished=False)
        yield
        self._append(what, finished=True)

    def _append(self, what: str, *, finished: bool) -> None:
        line = json.dumps({"worker": os.getpid(), "what": what, "finished": finished}) + "\n"
        # O_APPEND: lines of parallel nodes do not overwrite each other.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> list[Entry]:
        """All entries of all processes, oldest first."""
        if not self.path.exists():
            return []
        return [Entry(**json.loads(line)) for line in self.path.read_text().splitlines()]


def finished_by(entries: list[Entry], worker: int) -> list[str]:
    return [entry.what for entry in entries if entry.worker == worker and entry.finished]


def started_by(entries: list[Entry], worker: int) -> list[str]:
    return [entry.what for entry in entries if entry.worker == worker and not entry.finished]
