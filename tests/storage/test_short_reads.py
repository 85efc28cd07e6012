"""Short reads of SQLite from an event loop: on the loop where nobody is in the way, else on the reader's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.storage.query import Steps
from clew.threads import Threads
from tests.storage.kit import Run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads on which rules were read."""
    names: list[str] = []
    read = SqliteSaver._attach

    def attach(self: SqliteSaver, tables: Any) -> None:
        read(self, tables)
        inner = tables.read

        def noted(steps: Callable[[], Steps[Any]]) -> Any:
            names.append(threading.current_thread().name)
            return inner(steps)

        tables.read = noted

    monkeypatch.setattr(SqliteSaver, "_attach", attach)
    return names


def test_a_row_is_read_on_the_loop_unless_somebody_reads(tmp_path: Path, seen: list[str]) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL") as saver:
        mine = Threads(saver).of("ada")
        mine.create("t")
        mine.get("t")  # opens the reading connection

        async def read_twice() -> None:
            seen.clear()
            await mine.aget("t")
            holding, done = threading.Event(), threading.Event()

            def hold() -> None:
                with saver.tables._read_lock:
                    holding.set()
                    done.wait()

            other = threading.Thread(target=hold)
            other.start()
            await asyncio.to_thread(holding.wait)
            late = asyncio.create_task(mine.aget("t"))
            await asyncio.sleep(0)  # it has begun, and the loop goes on
            done.set()
            assert (await late).id == "t"
            await asyncio.to_thread(other.join)

        asyncio.run(read_twice())

    assert seen == [threading.main_thread().name, "clew-reader"]


def test_a_state_is_read_on_the_loop_if_it_is_small_and_in_memory(tmp_path: Path, seen: list[str]) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL") as saver:
        small, large = Run(saver, "small"), Run(saver, "large")
        small.state["text"], large.state["text"] = "x", "x" * 100_000
        small.commit()
        large.commit()

        async def load(thread: str) -> Any:
            return (await saver.arun(saver.session(thread).cursor("").load())).values["text"]

        async def load_both() -> list[str]:
            seen.clear()
            return [await load("small"), await load("large")]

        assert asyncio.run(load_both()) == ["x", "x" * 100_000]

    assert seen == [threading.main_thread().name, "clew-reader"]
