"""A process that forks one child for each case: real processes, real SIGKILL, without starting Python each time.

Reads a list of cases per line, runs them at the same time, and answers with their exit codes. Each child arms its
failpoints, opens the database and goes on with the story. The zygote itself never opens a database and has no threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from clew import _failpoints
from tests.faults.caller import THREAD, Caller, Racer
from tests.faults.ledger import Ledger
from tests.faults.places import LOOP_LINKS, open_loop_saver, open_saver, open_store
from tests.faults.stories import BY_NAME

SECONDS = 100


def main() -> None:
    for line in sys.stdin:
        children = [forked(case) for case in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


def forked(case: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(guarded(case))
    return child


def guarded(case: dict[str, Any]) -> int:
    """Run a case as a process would; what it raised goes to a file beside the database."""
    signal.alarm(SECONDS)  # a child that hangs dies by SIGALRM
    try:
        run(case)
        return 0
    except BaseException:
        Path(case["ledger"] + ".error").write_text(traceback.format_exc())
        return 1


def run(case: dict[str, Any]) -> None:
    if case.get("record"):
        passed = record()
    else:
        _failpoints.configure(case.get("failpoints", ""))
        passed = None
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if case.get("link") in LOOP_LINKS else None
        saver = stack.enter_context(open_saver(case) if runner is None else open_loop_saver(case, runner))
        store = stack.enter_context(open_store(case)) if "store" in case else None
        ledger = Ledger(case["ledger"])
        if "prune" in case:
            saver.prune([THREAD], keep_last=case["prune"])
        elif "updates" in case:
            racer = Racer(BY_NAME[case["story"]], saver, ledger, case["durability"], case["is_async"], runner=runner)
            racer.race(case["updates"], retries=case["retries"])
        else:
            story = BY_NAME[case["story"]]
            Caller(story, saver, ledger, case["durability"], case["is_async"], store, runner).tell()
    if passed is not None:
        Path(case["record"]).write_text(json.dumps(passed))


def record() -> Counter[str]:
    """Count the failpoints that are passed instead of acting at one."""
    passed: Counter[str] = Counter()

    def count(name: str) -> None:
        passed[name] += 1

    _failpoints.hit = count
    _failpoints.armed = lambda: True
    _failpoints.is_set = lambda name: True
    return passed


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
