"""Power is cut under SQLite: what was synced is there, of the rest any part may be missing.

The same SQL runs through apsw, whose VFS lets Python see every write and every sync. This tests the order of our
writes and the meaning of `synchronous`, not the system library's own fsync. The files are opened by apsw alone; the
images of them that a cut leaves are new files, which the saver then opens as usual.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import apsw
import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.storage.sqlite import SqliteTables
from tests.faults.parking import failpoints
from tests.faults.stories import BY_NAME, Notes

CONFIG: Any = {"configurable": {"thread_id": "thread"}}
Entry = tuple[str, str, int, bytes]  # what, file, offset or size or count, content


class PowerVfs(apsw.VFS):
    """The default VFS, keeping a diary of writes, syncs, truncations and deletions."""

    def __init__(self, name: str) -> None:
        self.diary: list[Entry] = []
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - SQLite's name
        return PowerFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.diary.append(("delete", filename, 0, b""))


class PowerFile(apsw.VFSFile):
    """One open file."""

    def __init__(self, vfs: PowerVfs, name: Any, flags: list[int]) -> None:
        self.diary = vfs.diary
        self.name = "" if name is None else name if isinstance(name, str) else name.filename()
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.diary.append(("write", self.name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self.diary.append(("truncate", self.name, size, b""))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.diary.append(("sync", self.name, 0, b""))


class Rows:
    """A result, as sqlite3's cursor shows it."""

    def __init__(self, connection: apsw.Connection, sql: str, params: Any) -> None:
        rows = list(connection.execute(sql, params))
        start = sql.lstrip().lower()
        is_query = start.startswith(("select", "pragma")) or "returning" in start
        self.description: Any = () if is_query else None
        self.rowcount = connection.changes()
        self.rows = iter(rows)

    def fetchall(self) -> list[Any]:
        return list(self.rows)

    def fetchone(self) -> Any:
        return next(self.rows, None)


class Connection:
    """An apsw connection, with as much of sqlite3's face as the saver uses."""

    def __init__(self, path: str, vfs: str) -> None:
        self.real = apsw.Connection(path, vfs=vfs)
        self.real.set_busy_timeout(5000)

    def execute(self, sql: str, params: Any = ()) -> Rows:
        return Rows(self.real, sql, params)

    def cursor(self) -> Connection:
        return self

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    @property
    def total_changes(self) -> int:
        return self.real.total_changes()

    def close(self) -> None:
        self.real.close()


def image(diary: list[Entry], cut: int, chance: random.Random) -> dict[str, bytearray]:
    """Files after power was cut at entry `cut`: of what was not synced, every write is there or not by chance."""
    synced: dict[str, int] = defaultdict(int)
    for number, (what, name, _, _) in enumerate(diary[:cut]):
        if what in ("sync", "delete"):
            synced[name] = number
    files: dict[str, bytearray] = {}
    for number, (what, name, at, content) in enumerate(diary[:cut]):
        if number > synced[name] and chance.random() < 0.4:
            continue
        if what == "delete":
            files.pop(name, None)
            continue
        file = files.setdefault(name, bytearray())
        if what == "write":
            file.extend(bytes(max(0, at - len(file))))
            file[at : at + len(content)] = content
        elif what == "truncate":
            del file[at:]
    return files


def lived(folder: Path, synchronous: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Entry], list[str]]:
    """Many runs on one thread: the diary, in which every acknowledged commit is noted, and the checkpoint ids."""
    vfs = PowerVfs(f"power {folder}")
    monkeypatch.setattr(SqliteTables, "_connect", lambda self: Connection(self.path, f"power {folder}"))
    commits = 0

    def note(name: str) -> None:
        nonlocal commits
        if name == "commit.after":
            commits += 1
            vfs.diary.append(("acknowledged", "", commits, b""))

    (folder / "live").mkdir()
    with SqliteSaver(str(folder / "live" / "clew.db"), synchronous=synchronous) as saver, failpoints(note):
        graph = BY_NAME["fan_out"].build(Notes(), False).compile(checkpointer=saver)
        for turn in range(50):
            graph.invoke({"log": [f"turn {turn} " + "x" * 500], "total": 0}, CONFIG, durability="sync")
        ids = [one.config["configurable"]["checkpoint_id"] for one in graph.get_state_history(CONFIG)]
        diary = list(vfs.diary)
    monkeypatch.undo()
    return diary, ids


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_power_cut_leaves_a_gapless_beginning(
    tmp_path: Path, synchronous: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    diary, ids = lived(tmp_path, synchronous, monkeypatch)
    chance = random.Random(synchronous)
    lost = 0
    first = next(number for number, entry in enumerate(diary) if entry[0] == "acknowledged")
    assert any(entry[0] == "write" and entry[1].endswith("clew.db") for entry in diary[first:]), "no WAL checkpoint ran"

    for number in range(40):
        cut = chance.randrange(first, len(diary))
        acknowledged = max(count for what, _, count, _ in diary[: cut + 1] if what == "acknowledged")
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in image(diary, cut, chance).items():
            if name:
                (folder / Path(name).name).write_bytes(content)
        with SqliteSaver(str(folder / "clew.db")) as saver:
            report = saver.verify()
            assert report.is_intact, report.problems
            graph = BY_NAME["fan_out"].build(Notes(), False).compile(checkpointer=saver)
            found = [one.config["configurable"]["checkpoint_id"] for one in graph.get_state_history(CONFIG)]
        assert found == (ids[-len(found) :] if found else []), "a hole in the history"
        lost = max(lost, acknowledged - len(found))
        if synchronous == "FULL":
            assert len(found) >= acknowledged, "what was acknowledged is lost"

    assert lost > 0 or synchronous == "FULL", "NORMAL lost nothing: the cuts are too gentle to show anything"
