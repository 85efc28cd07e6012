"""The ledger: what really happened, in a file outside of the database that survives the death of its writers."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clew import _failpoints


class Ledger:
    """An append-only file of one JSON object per line; each line is written by one call."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def add(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"kind": kind, "pid": os.getpid(), **facts}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self._all() if line["kind"] == kind]

    def count(self) -> int:
        return sum(1 for _ in self._all())

    def _all(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                yield json.loads(line)


class LedgerWorld:
    """The world of a story, seen from several processes. Passing `node.done` is the moment after a side effect."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.is_repaired = False

    def note(self, key: str, name: str) -> None:
        self.ledger.add("ran", key=key, name=name)
        _failpoints.hit("node.done")


def attempts(ledger: Ledger, field: str = "key") -> Counter[str]:
    """How often each key (or node name) did its work."""
    return Counter(line[field] for line in ledger.lines("ran"))
