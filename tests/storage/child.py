"""What a child process does in the tests of crashes and races; it says what was acknowledged to it."""

from __future__ import annotations

import os
import sys

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import StorageError, ThreadConflictError
from tests.storage.kit import Run, history, write


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def crash(path: str, synchronous: str) -> None:
    saver = SqliteSaver(path, synchronous=synchronous)  # type: ignore[arg-type] - from the command line
    run = Run(saver, "t")
    for turn in range(int(run.state.get("turn", -1)) + 1, 50):
        run.state["turn"] = turn
        run.state.setdefault("log", []).append({"turn": turn, "text": "x" * 200})
        run.commit(claim=True, writes=[write(turn)])
        say(f"committed {turn}")
        saver.run(run.cursor.save_writes([write(f"pending {turn}")]))
        say(f"pending {turn}")


def compete(path: str, turns: str) -> None:
    saver = SqliteSaver(path, synchronous="NORMAL")
    say("ready")
    sys.stdin.readline()
    for turn in range(int(turns)):
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


def setup(path: str) -> None:
    say("ready")
    sys.stdin.readline()
    SqliteSaver(path).setup()
    say("done")


def prune(path: str) -> None:
    """Shorten a thread, which a failpoint may end in the middle."""
    SqliteSaver(path).prune(["t"], keep_last=4)


def leave(path: str) -> None:
    """Submit, and end without waiting."""
    saver = SqliteSaver(path)
    run = Run(saver, "t")
    for turn in range(200):
        run.state["turn"] = turn
        run.submit()


def fork(path: str) -> None:
    """Use a saver on both sides of a fork."""
    saver = SqliteSaver(path)
    run = Run(saver, "t")
    run.commit([])
    pid = os.fork()
    if pid == 0:
        try:
            Run(saver, "t")
        except StorageError as error:
            say(str(error))
        os._exit(0)
    os.waitpid(pid, 0)
    run.commit([])
    say(f"the parent has {len(history(saver, 't'))}")


if __name__ == "__main__":
    {"crash": crash, "compete": compete, "setup": setup, "leave": leave, "prune": prune, "fork": fork}[sys.argv[1]](
        *sys.argv[2:]
    )
