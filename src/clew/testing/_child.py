"""What another process does with the storage under test; it says on its standard output what was acknowledged to it.

`python -m clew.testing._child OPENER ACTION ...`
"""

from __future__ import annotations

import os
import sys
from typing import Any

from clew.errors import ThreadConflictError
from clew.testing._kit import opened
from clew.testing._runs import Run, write


def say(text: str) -> None:
    """One line, at once and whole: a line that was said is in the pipe, whatever happens to this process."""
    os.write(1, f"{text}\n".encode())


def commit(saver: Any) -> None:
    """Commit until killed, with writes behind each step."""
    run = Run(saver, "t")
    for turn in range(int(run.state.get("turn", -1)) + 1, 1_000_000):
        run.state["turn"] = turn
        run.state.setdefault("log", []).append({"turn": turn, "text": "x" * 200})
        run.commit(claim=True, writes=[write(turn)])
        say(f"committed {turn}")
        run.save(write(f"pending {turn}"))
        say(f"pending {turn}")


def compete(saver: Any) -> None:
    """Take one thread again and again, against others who do the same."""
    say("ready")
    sys.stdin.readline()
    for turn in range(15):
        try:
            run = Run(saver, "t")
            run.state.setdefault("log", []).append([os.getpid(), turn])
            run.commit(claim=True)
            run.state["log"].append([os.getpid(), turn, "done"])
            run.commit()
        except ThreadConflictError:
            say("lost")
        else:
            say("won")


def put(store: Any) -> None:
    """Put items until killed."""
    for number in range(1_000_000):
        store.put(("a",), f"{number:06}", {"number": number, "text": "x" * 200})
        say(f"put {number}")


if __name__ == "__main__":
    with opened(sys.argv[1]) as subject:
        {"commit": commit, "compete": compete, "put": put}[sys.argv[2]](subject)
