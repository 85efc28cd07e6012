"""A service in a child process, started again when files change.

The parent keeps the socket, so that requests wait while the child is started anew; the child ends with its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from clew.cli import _show as show
from clew.cli._problem import CommandError

HOPELESS = 78  # the status of a child that no change of a file helps

_VARIABLE = "CLEW_SUPERVISED"  # "socket,pipe": what the child inherits
_PAUSE = 0.3  # seconds between looks at the files
_ENDING = 5.0  # seconds that a child has after its grace
_ENDINGS = (".py", ".json", ".env", ".toml")
_NOT_LOOKED_INTO = {"node_modules", "__pycache__", "site-packages"}


def is_supervised() -> bool:
    """Whether this process is such a child."""
    return _VARIABLE in os.environ


def listening() -> socket.socket | None:
    """The parent's socket, in a child."""
    return socket.socket(fileno=int(os.environ[_VARIABLE].split(",")[0])) if is_supervised() else None


def end_with_parent() -> None:
    """In a child: end as by SIGTERM when the parent is gone."""
    if not is_supervised():
        return
    pipe = int(os.environ[_VARIABLE].split(",")[1])

    def wait() -> None:
        os.read(pipe, 1)  # nothing is written: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="clew-parent", daemon=True).start()


def run(arguments: Sequence[str], bound: socket.socket, *, folders: Sequence[Path], grace: float) -> None:
    """Run `clew` with these arguments in a child, until SIGTERM or Ctrl-C; again whenever files change."""
    if os.name != "posix":
        raise CommandError("starting again when files change needs a POSIX system", hint="leave it out: --no-reload")
    bound.listen(128)
    ends, given = os.pipe()
    stop = threading.Event()
    with _signals_set(stop):
        child = _start(arguments, bound, ends)
        seen = snapshot(folders)
        try:
            while not stop.wait(_PAUSE):
                now = snapshot(folders)
                status = child.poll()
                if status in (0, HOPELESS):
                    raise SystemExit(status and 1)
                if now != seen:
                    show.notes.print(f"changed    {', '.join(changed(seen, now)[:3])}; starting again", style="dim")
                    _end(child, grace)
                    child = _start(arguments, bound, ends)
                seen = now
        finally:
            _end(child, grace)
            os.close(given)
            os.close(ends)


def snapshot(folders: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """When each file was changed last, and its size."""
    found: dict[str, tuple[int, int]] = {}
    for folder in folders:
        for entry in _files(str(folder)):
            with suppress(OSError):  # it is gone by now
                about = entry.stat()
                found[entry.path] = (about.st_mtime_ns, about.st_size)
    return found


def changed(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """The names of the files that differ."""
    paths = {path for path, about in (before.items() ^ after.items()) if about}
    return sorted({Path(path).name for path in paths})


def open_when_ready(page: str, health: str) -> None:
    """Open a page in the browser once the service answers."""
    import webbrowser  # late: seldom needed
    from urllib.request import urlopen

    def wait() -> None:
        while True:
            with suppress(OSError), urlopen(health, timeout=60):
                break
            time.sleep(_PAUSE)
        webbrowser.open(page)

    threading.Thread(target=wait, name="clew-browser", daemon=True).start()


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return  # an environment, not somebody's program
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith(".") and entry.name not in _NOT_LOOKED_INTO:
                yield from _files(entry.path)
        elif entry.name.endswith(_ENDINGS):
            yield entry


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(arguments: Sequence[str], bound: socket.socket, pipe: int) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is for the parent, which ends the child gently.
    return subprocess.Popen(
        [sys.executable, "-m", "clew.cli", *arguments],
        pass_fds=(bound.fileno(), pipe),
        env={**os.environ, _VARIABLE: f"{bound.fileno()},{pipe}"},
        start_new_session=True,
    )


def _end(child: subprocess.Popen[bytes], grace: float) -> None:
    child.terminate()
    try:
        child.wait(grace + _ENDING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
