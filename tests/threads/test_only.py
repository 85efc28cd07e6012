"""Threads of an owner that fit a filter on metadata: the others do not exist, whatever is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ThreadExistsError, ThreadNotFoundError
from clew.threads import Threads

ROWS = {f"t{number}": {"team": "blue" if number % 3 else "red", "level": number % 2} for number in range(9)}
BLUE_EVEN = ["t2", "t4", "t8"]


class BlueAndEven:
    """What a filter is: a part that databases can be asked, a part that they cannot, and what new threads hold."""

    def __init__(self) -> None:
        self.asked = {"team": "blue"}

    def fits(self, metadata: Any) -> bool:
        return metadata.get("team") == "blue" and metadata.get("level") == 0

    def made(self, metadata: Any) -> Any:
        if metadata.get("team", "blue") != "blue":
            raise PermissionError("not blue")
        return {"team": "blue", "level": 0, **metadata}


@pytest.fixture(params=["memory", "sqlite", "sealed", "postgres"])
def threads(request: pytest.FixtureRequest) -> Iterator[Threads]:
    match request.param:
        case "memory":
            yield Threads(InMemorySaver())
        case "postgres":
            yield Threads(request.getfixturevalue("postgres_saver").with_tenant(request.node.originalname))
        case kind:
            serde = EncryptedSerializer({"k": b"k" * 32}) if kind == "sealed" else None
            with SqliteSaver.from_conn_string(":memory:", serde=serde) as saver:
                yield Threads(saver)


def test_what_does_not_fit_does_not_exist(threads: Threads) -> None:
    mine = threads.of("ada")
    for id, metadata in ROWS.items():
        mine.create(id, title=f"title {id}", metadata=metadata)
    only = threads.of("ada", only=BlueAndEven())

    page = only.list(limit=2)
    rest = only.list(limit=2, after=page.next)
    assert sorted(thread.id for thread in (*page.threads, *rest.threads)) == BLUE_EVEN
    for sort in (None, "thread_id", "created_at"):
        found = only.search(sort_by=sort, is_descending=False, limit=2, offset=1)
        assert len(found) == 2
        assert {thread.id for thread in found} < set(BLUE_EVEN)
    assert [thread.id for thread in only.search(ids=["t1", "t2", "t3"])] == ["t2"]
    assert [thread.id for thread in only.search(text="TITLE T4")] == ["t4"]
    assert only.search(metadata={"team": "red"}) == ()
    assert (only.count(), only.count(metadata={"level": 0}), only.count(metadata={"level": 1})) == (3, 3, 0)
    assert asyncio.run(only.acount()) == 3

    absent: list[Any] = [
        only.get, only.delete, only.archive, only.unarchive, only.copy,
        lambda id: only.rename(id, "stolen"), lambda id: only.update(id, metadata={"level": 0}),
        lambda id: only.transfer(id, "bob"), lambda id: asyncio.run(only.aget(id)),
    ]  # fmt: skip
    for call in absent:
        for id in ("t0", "t1", "none"):
            with pytest.raises(ThreadNotFoundError, match=f"there is no thread '{id}'"):
                call(id)
    assert (mine.get("t1").title, mine.count()) == ("title t1", 9)
    assert only.get("t2").metadata == ROWS["t2"]
    assert only.copy("t2", "copied", metadata={"team": "red"}).metadata == {"team": "red"}
    with pytest.raises(ThreadNotFoundError):
        only.get("copied")


def test_what_is_made_fits(threads: Threads) -> None:
    mine, only = threads.of("ada"), threads.of("ada", only=BlueAndEven())
    mine.create("other", metadata={"team": "red"})

    assert only.create("made", metadata={"n": 1}).metadata == {"team": "blue", "level": 0, "n": 1}
    assert only.create("made", if_exists="do_nothing").id == "made"
    with pytest.raises(PermissionError):
        only.create("red", metadata={"team": "red"})
    for if_exists in ("raise", "do_nothing"):
        with pytest.raises(ThreadExistsError):
            only.create("other", if_exists=if_exists)
    assert {thread.id for thread in mine.search()} == {"made", "other"}
