"""Retention goes in steps that may be cut short anywhere, beside runs that notice nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.protocols import HistoryQuery
from clew.retention import Retention, RetentionProgress
from clew.storage import records, upkeep
from tests.retention.child import build
from tests.retention.kit import fill, lengths, lines, spill_sizes
from tests.storage.kit import Run, history, load

ROOT = Path(__file__).parents[2]
THREAD: dict[str, Any] = {"configurable": {"thread_id": "t"}}


def start(*arguments: str, failpoints: str = "") -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.retention.child", *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "CLEW_FAILPOINTS": failpoints},
        text=True,
    )


def read(saver: Any) -> dict[tuple[str, str], Any]:
    """What the checkpoints of thread "t" read as."""
    return {
        (ns, found.checkpoint_id): found.values
        for ns in lines(saver, "t")
        for found in saver.run(saver.session("t").cursor(ns).history(HistoryQuery()))
    }


@pytest.mark.parametrize("batch", [1, 4, 7, 100])
def test_everything_reads_right_between_two_batches(saver: Any, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SPILL_FROM", 100)
    fill(saver, "t", 12, size=120)
    forked = Run(saver, "t", at=history(saver, "t")[5].checkpoint_id)
    for _ in range(5):
        forked.state["log"].append("forked")
        forked.commit(claim=True)
    fill(saver, "t", 9, "memory", session=forked.session)
    before, seen = read(saver), list[int]()

    def check(progress: RetentionProgress) -> None:
        now = read(saver)
        assert now.items() <= before.items()
        assert saver.verify().problems == []
        seen.append(len(before) - len(now))

    report = saver.retain(Retention(keep_last=3), batch=batch, on_progress=check)

    assert seen[:-1] == [min(count * batch, 20) for count in range(1, len(seen))]
    assert report.checkpoints == seen[-1] == 20
    assert lengths(saver, "t") == {"": 3, "memory": 3}


def test_no_more_than_one_step_of_a_chain_is_rewritten(saver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten: list[int] = []
    rewrite = upkeep.rewrite

    def counting(place: Any, line: int, row: Any, body: bytes) -> Any:
        rewritten.append(row.seq)
        return rewrite(place, line, row, body)

    monkeypatch.setattr(upkeep, "rewrite", counting)
    fill(saver, "t", 100)

    saver.retain(Retention(keep_last=5), batch=10)

    assert rewritten == [96]
    assert load(saver, "t").values["log"][-1] == "t 99 "


# Where the process is killed, and how many of 20 checkpoints are left then: three batches of 5, and a last one of 2.
POINTS = {
    "prune.before=kill@1": 20,
    "prune.statement=kill@1": 20,
    "prune.after=kill@1": 15,
    "prune.uncommitted=kill@2": 15,
    "prune.before=kill@3": 10,
    "prune.statement=kill@4": 10,
    "prune.after=kill@3": 5,
    "prune.before=kill@4": 5,
    "prune.uncommitted=kill@4": 5,
    "prune.after=kill@4": 3,
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_of_retention_loses_nothing_and_the_next_one_ends_it(tmp_path: Path, point: str) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver:
        documents = [os.urandom(40_000) for _ in range(4)]
        run = Run(saver, "t")
        for turn in range(20):
            run.state |= {"turn": turn, "document": documents[turn // 5]}
            run.commit()
        before = read(saver)
    child = start("retain", path, "3", "5", failpoints=point)
    child.communicate()
    assert child.returncode == -9

    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver:
        left = read(saver)
        assert left.items() <= before.items()
        newest = sorted(before)[-3:]
        assert set(newest) <= set(left)
        assert saver.verify().problems == []
        assert len(left) == POINTS[point]
        report = saver.retain(Retention(keep_last=3), batch=5)
        assert report.checkpoints == len(left) - 3
        assert sorted(read(saver)) == newest
        assert len(spill_sizes(saver, "t")) == 1, "the documents of what went are gone, too"
        run = Run(saver, "t")
        run.state["turn"] = 20
        run.commit(claim=True)
        assert saver.verify().problems == []


def test_a_run_in_the_same_process_goes_on_while_its_thread_is_shortened(saver: Any) -> None:
    graph = build(saver)
    graph.invoke({"numbers": [0]}, THREAD)
    errors: list[BaseException] = []
    is_over = threading.Event()

    def retain() -> None:
        try:
            while not is_over.is_set():
                saver.retain(Retention(keep_last=2), batch=3)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=retain)
    thread.start()
    try:
        for _ in range(40):
            graph.invoke({"numbers": []}, THREAD)
    finally:
        is_over.set()
        thread.join()

    assert errors == []
    assert graph.get_state(THREAD).values["numbers"] == list(range(83))
    assert saver.verify().problems == []
    saver.retain(Retention(keep_last=2))
    assert lengths(saver, "t") == {"": 2}


def test_a_run_in_another_process_goes_on_while_its_thread_is_shortened(tmp_path: Path) -> None:
    path, stop = str(tmp_path / "threads.db"), tmp_path / "stop"
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver:
        graph = build(saver)
        graph.invoke({"numbers": [0]}, THREAD)
        child = start("run", path, str(stop))
        try:
            dropped = 0
            while child.poll() is None and dropped < 60:
                dropped += saver.retain(Retention(keep_last=2), batch=3).checkpoints
        finally:
            stop.touch()
            turns = len(child.communicate(timeout=60)[0].splitlines())

        assert child.returncode == 0
        assert (dropped >= 60, turns > 0) == (True, True)
        assert graph.get_state(THREAD).values["numbers"] == list(range(3 + 2 * turns))
        assert saver.verify().problems == []


@pytest.mark.parametrize("others", ["delete", "prune"])
def test_it_ends_where_others_drop_what_was_about_to_go(saver: Any, others: str) -> None:
    """Two replicas shorten the same thread: what one has planned is gone when its turn comes."""
    fill(saver, "t", 12)
    fill(saver, "u", 3)
    turns = list[int]()

    def meanwhile(progress: RetentionProgress) -> None:
        turns.append(progress.checkpoints)
        assert len(turns) < 20, "it goes on for ever"
        if others == "delete":
            saver.delete_thread("t")
        else:
            saver.prune(["t"], keep_last=2)

    saver.retain(Retention(keep_last=2), batch=2, on_progress=meanwhile)

    assert lengths(saver, "t") == ({} if others == "delete" else {"": 2})
    assert lengths(saver, "u") == {"": 2}
    assert saver.verify().is_intact
