"""Named points where a test can make the process fail, to show what survives.

`hit(name)` does nothing unless the environment variable `CLEW_FAILPOINTS` was set when the process started, for
example `commit.after=kill@3;pending.before=raise`. Actions: `kill` (SIGKILL to this process), `raise` (an
`InjectedFailureError`), `sleep(seconds)`, `barrier(path)` (creates `path`, waits for `path.go`); `@n` acts at the
n-th hit only.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ("InjectedFailureError", "armed", "configure", "hit")


class InjectedFailureError(Exception):
    """What a failpoint with the action `raise` raises."""


@dataclass(slots=True)
class _Failpoint:
    action: str
    argument: str
    at: int  # 0: at every hit
    hits: int = 0


_PATTERN = re.compile(r"(?P<name>[\w.]+)=(?P<action>kill|raise|sleep|barrier)(\((?P<argument>[^)]*)\))?(@(?P<at>\d+))?")
_points: dict[str, _Failpoint] = {}
_lock = threading.Lock()


def configure(text: str) -> None:
    """Replace the failpoints by those that `text` describes; an empty text disarms all.

    Takes effect for modules that call `hit` through this module, and for all when set before the process starts.
    """
    points: dict[str, _Failpoint] = {}
    for part in filter(None, re.split(r"[;\n]", text)):
        found = _PATTERN.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"failpoint {part!r} is not of the form name=action@n")
        points[found["name"]] = _Failpoint(found["action"], found["argument"] or "", int(found["at"] or 0))
    _points.clear()
    _points.update(points)


def armed() -> bool:
    """Whether any failpoint is set."""
    return bool(_points)


def is_set(name: str) -> bool:
    """Whether there is a failpoint of that name."""
    return name in _points


def hit(name: str) -> None:
    """Pass the point `name`; acts only if a failpoint of that name is set."""
    if not _points:
        return
    point = _points.get(name)
    if point is None:
        return
    with _lock:
        point.hits += 1
        if point.at not in (0, point.hits):
            return
    _act(name, point)


def _act(name: str, point: _Failpoint) -> None:
    match point.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise InjectedFailureError(f"failpoint {name!r} was hit")
        case "sleep":
            time.sleep(float(point.argument or 0.1))
        case _:
            _wait_at_barrier(Path(point.argument or f"{name}.barrier"))


def _wait_at_barrier(path: Path) -> None:
    path.touch()
    go = path.with_name(path.name + ".go")
    deadline = time.monotonic() + 60
    while not go.exists():
        if time.monotonic() > deadline:
            raise InjectedFailureError(f"nobody opened the barrier {path}")
        time.sleep(0.005)


configure(os.environ.get("CLEW_FAILPOINTS", ""))
