"""The face by id: what LangGraph's savers promise, and what clew's add."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint import base
from clew.checkpoint.memory import InMemorySaver, MemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.errors import InvalidThreadIdError, StorageError
from clew.ids import checkpoint_id
from tests.storage.kit import Run, history, load

CONFIG: dict[str, Any] = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


@pytest.fixture(params=["memory", "sqlite"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    if request.param == "memory":
        yield InMemorySaver()
        return
    with SqliteSaver.from_conn_string(str(tmp_path / "threads.db"), synchronous="NORMAL") as opened:
        yield opened


def put(
    saver: Any, id: str, values: dict[str, Any], *, parent: str | None = None, version: int = 1, **metadata: Any
) -> Any:
    config = {"configurable": {**CONFIG["configurable"], **({"checkpoint_id": parent} if parent else {})}}
    checkpoint = base.Checkpoint(
        v=4,
        id=id,
        ts="2026-01-02T03:04:05+00:00",
        channel_values=values,
        channel_versions=dict.fromkeys(values, version),
        versions_seen={"node": {"a": version}},
        updated_channels=None,
    )
    return saver.put(
        config, checkpoint, {"source": "loop", "step": version, **metadata}, dict.fromkeys(values, version)
    )


def at(id: str) -> dict[str, Any]:
    return {"configurable": {**CONFIG["configurable"], "checkpoint_id": id}}


def test_checkpoints_are_ordered_by_id_whatever_the_order_of_calls(saver: Any) -> None:
    ids = [f"1f000000-0000-6000-8000-00000000000{number}" for number in range(5)]
    for number in (1, 3, 0, 4, 2):
        put(saver, ids[number], {"a": number}, parent=ids[number - 1] if number else None)

    assert [found.checkpoint["id"] for found in saver.list(CONFIG)] == ids[::-1]
    assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 4}
    assert [saver.get(at(id))["channel_values"]["a"] for id in ids] == [0, 1, 2, 3, 4]
    assert saver.get_tuple(at(ids[3])).parent_config["configurable"]["checkpoint_id"] == ids[2]
    assert saver.verify("t").problems == []


def test_putting_an_id_again_replaces_it_and_what_builds_on_it_stays(saver: Any) -> None:
    ids = [checkpoint_id()]
    put(saver, ids[0], {"a": [0]})
    for number in range(1, 5):
        ids.append(checkpoint_id(ids[-1]))
        put(saver, ids[-1], {"a": list(range(number + 1))}, parent=ids[-2], version=number + 1)
    saver.put_writes(at(ids[-1]), [("a", "waits")], "task")

    put(saver, ids[-1], {"a": "the tip"}, parent=ids[-2], version=9)
    put(saver, ids[2], {"a": "the middle"}, parent=ids[1], version=8)

    values = [found.checkpoint["channel_values"]["a"] for found in saver.list(CONFIG)]
    assert values == ["the tip", [0, 1, 2, 3], "the middle", [0, 1], [0]]
    assert saver.get_tuple(CONFIG).pending_writes == [("task", "a", "waits")]
    assert saver.get_tuple(CONFIG).parent_config["configurable"]["checkpoint_id"] == ids[3]
    assert saver.verify("t").problems == []
    put(saver, checkpoint_id(ids[-1]), {"a": "after"}, parent=ids[-1], version=10)
    assert len(list(saver.list(CONFIG))) == 6


def test_writes_may_come_before_their_checkpoint(saver: Any) -> None:
    id = checkpoint_id()
    saver.put_writes(at(id), [("a", 1)], "task 1", "path 2")
    saver.put_writes(at(id), [("a", 2)], "task 2", "path 1")
    put(saver, id, {"a": 0})

    assert saver.get_tuple(CONFIG).pending_writes == [("task 2", "a", 2), ("task 1", "a", 1)]


def test_ordinary_writes_stay_and_special_ones_are_replaced(saver: Any) -> None:
    id = checkpoint_id()
    put(saver, id, {"a": 0})
    saver.put_writes(at(id), [("a", 1), ("__error__", "first")], "task")
    saver.put_writes(at(id), [("a", 2), ("b", 3)], "task")
    saver.put_writes(at(id), [("__error__", "second"), ("__interrupt__", "?")], "task")

    assert saver.get_tuple(CONFIG).pending_writes == [
        ("task", "__interrupt__", "?"),
        ("task", "__error__", "second"),
        ("task", "a", 1),
        ("task", "b", 3),
    ]


def test_metadata_takes_the_scalars_of_the_config(saver: Any) -> None:
    config = {
        "configurable": {"thread_id": "t", "checkpoint_ns": "", "user": "u", "__hidden": 1, "object": object()},
        "metadata": {"tag": 7, "source": "not this"},
    }
    checkpoint = base.empty_checkpoint()
    saver.put(config, checkpoint, {"source": "input", "step": -1}, {})

    assert saver.get_tuple(CONFIG).metadata == {"source": "input", "step": -1, "user": "u", "tag": 7}
    assert saver.get_tuple(CONFIG).checkpoint["ts"] == checkpoint["ts"]


def test_lists_are_filtered_limited_and_cut(saver: Any) -> None:
    ids: list[str] = []
    for number in range(6):
        ids.append(checkpoint_id(ids[-1] if ids else None))
        put(saver, ids[-1], {"a": number}, parent=ids[-2] if number else None, version=number + 1, even=number % 2 == 0)

    def listed(**query: Any) -> list[int]:
        return [found.checkpoint["channel_values"]["a"] for found in saver.list(CONFIG, **query)]

    assert listed(filter={"even": True}) == [4, 2, 0]
    assert listed(filter={"even": True}, limit=2) == [4, 2]
    assert listed(limit=2) == [5, 4]
    assert listed(limit=0) == []
    assert listed(before=at(ids[2])) == [1, 0]
    assert listed(before=at(ids[4]), filter={"even": False}, limit=1) == [3]
    assert listed(filter={"no such": None, "step": 3}) == [2], "as with dict.get"
    assert [found.checkpoint["id"] for found in saver.list(at(ids[3]))] == [ids[3]]
    assert list(saver.list(at(ids[3]), filter={"even": True})) == []
    assert len(list(saver.list(None))) == 6
    assert list(saver.list({"configurable": {"thread_id": "nobody"}})) == []


def test_hostile_filters_and_names_are_only_data(saver: Any) -> None:
    name = "x' or 1=1 --"
    put(saver, checkpoint_id(), {"a": 1}, **{name: "v"})
    put(saver, checkpoint_id(), {"a": 2})

    assert [found.metadata["step"] for found in saver.list(CONFIG, filter={name: "v"})] == [1]
    assert list(saver.list(CONFIG, filter={"$.a[0]') or 1=1 --": "v"})) == []
    assert saver.get_tuple({"configurable": {"thread_id": name, "checkpoint_ns": name}}) is None


def fill(saver: Any, thread: str = "t", count: int = 6) -> None:
    run = Run(saver, thread, run_id="00000000-0000-4000-8000-000000000001")
    for number in range(count):
        run.state.setdefault("log", []).append("x" * number)
        run.commit()
    child = Run(saver, thread, "child", session=run.session)
    child.state["m"] = 1
    child.commit()
    child.commit()


def test_pruning_keeps_what_its_policy_says(saver: Any) -> None:
    for thread in ("a", "b", "c", "d"):
        fill(saver, thread)
    everything = history(saver, "a")

    saver.prune(["a"], keep_last=3)
    saver.prune(["b"])
    saver.prune(["c"], older_than=timedelta(hours=1))
    asyncio.run(saver.aprune(["d"], older_than=datetime.now(UTC) + timedelta(hours=1), keep_last=2))

    assert [saved.values for saved in history(saver, "a")] == [saved.values for saved in everything[:3]]
    assert [len(history(saver, thread)) for thread in ("a", "b", "c", "d")] == [3, 1, 6, 1]
    assert [len(history(saver, thread, "child")) for thread in ("a", "b", "c", "d")] == [2, 1, 2, 1]
    assert history(saver, "a")[-1].parent_id is None, "a parent that was pruned reads as none"
    assert saver.verify().problems == []
    saver.prune(["a", "b"], strategy="delete")
    assert [summary.thread_id for summary in saver.threads()] == ["d", "c"]


def test_a_run_goes_on_while_its_thread_is_pruned(saver: Any) -> None:
    run = Run(saver, "t")
    for number in range(20):
        run.state.setdefault("log", []).append(number)
        run.commit()
        if number % 5 == 4:
            saver.prune(["t"])

    assert load(saver, "t").values == {"log": list(range(20))}
    assert saver.verify("t").problems == []
    saver.heads.drop("", "t")
    assert load(saver, "t").values == {"log": list(range(20))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "keep_oldest"}, "strategy is 'keep_oldest', not 'keep_latest' or 'delete'"),
        ({"keep_last": 0}, "keep_last is 0; the newest checkpoint always stays"),
        ({"older_than": datetime(2026, 1, 1)}, "older_than is a time without a time zone"),
    ],
)
def test_policies_that_make_no_sense_are_refused(saver: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        saver.prune(["t"], **arguments)


def test_threads_are_summed_up(saver: Any) -> None:
    fill(saver, "a")
    fill(saver, "b", 2)

    newest, oldest = saver.threads()

    assert (newest.thread_id, newest.steps, newest.checkpoints, newest.namespaces) == ("b", 2, 4, 2)
    assert (oldest.thread_id, oldest.steps, oldest.checkpoints, oldest.namespaces) == ("a", 6, 8, 2)
    assert oldest.created_at <= oldest.updated_at <= newest.updated_at
    assert asyncio.run(saver.athreads()) == [newest, oldest]


def test_a_copy_is_a_thread_of_its_own(saver: Any) -> None:
    fill(saver)
    saver.copy_thread("t", "copy")
    before = history(saver, "copy")
    run = Run(saver, "t")
    run.state["log"] = []
    run.commit()

    assert history(saver, "copy") == before
    assert len(history(saver, "copy", "child")) == 2
    copied = Run(saver, "copy")
    copied.state["log"].append("on the copy")
    copied.commit()
    assert len(history(saver, "copy")) == 7
    with pytest.raises(StorageError, match="thread 'copy' exists already; 't' was not copied onto it"):
        saver.copy_thread("t", "copy")
    assert saver.verify().problems == []


def test_deleting_a_run_takes_its_checkpoints_on_every_thread(saver: Any) -> None:
    fill(saver, "a")
    fill(saver, "b")
    run = Run(saver, "a", run_id="another run")
    run.state["log"].append("another run's")
    run.commit()

    saver.delete_for_runs(["00000000-0000-4000-8000-000000000001", "no such run"])

    assert [saved.values["log"][-1] for saved in history(saver, "a")] == ["another run's"]
    assert history(saver, "b") == []
    assert load(saver, "b") is None
    fill(saver, "b")
    assert len(history(saver, "b")) == 6
    assert saver.verify().problems == []


def test_the_engines_threads_can_be_read_by_id(saver: Any) -> None:
    fill(saver)
    found = saver.get_tuple(CONFIG)

    assert found.checkpoint["channel_values"] == {"log": ["x" * number for number in range(6)]}
    assert found.checkpoint["v"] == 4
    assert datetime.fromisoformat(found.checkpoint["ts"]).tzinfo is not None
    assert found.parent_config == at(history(saver, "t")[1].checkpoint_id)
    assert saver.get_delta_channel_history(config=CONFIG, channels=["log"])["log"]["seed"] == [
        "x" * n for n in range(5)
    ]


def test_what_a_channel_received_is_collected_along_the_parents(saver: Any) -> None:
    ids = [checkpoint_id()]
    put(saver, ids[0], {"a": "seed", "other": 1})
    for number in range(1, 4):
        saver.put_writes(at(ids[-1]), [("a", number), ("b", -number)], "task")
        ids.append(checkpoint_id(ids[-1]))
        put(saver, ids[-1], {"other": number}, parent=ids[-2], version=number + 1)

    found = saver.get_delta_channel_history(config=CONFIG, channels=["a", "b", "c"])

    assert found["a"] == {"writes": [("task", "a", 1), ("task", "a", 2), ("task", "a", 3)], "seed": "seed"}
    assert found["b"] == {"writes": [("task", "b", -1), ("task", "b", -2), ("task", "b", -3)]}
    assert found["c"] == {"writes": []}
    assert asyncio.run(saver.aget_delta_channel_history(config=CONFIG, channels=["a", "b", "c"])) == found
    assert saver.get_delta_channel_history(config=CONFIG, channels=[]) == {}


def test_an_allowlist_gives_a_saver_on_the_same_storage_that_knows_more(saver: Any) -> None:
    clone = saver.with_allowlist([("clew.storage.upkeep", "ThreadSummary"), ("no.such.module", "X"), ("os", "system")])
    fill(saver)
    summary = clone.threads()[0]
    put(clone, checkpoint_id(), {"a": summary})

    assert clone.get_tuple(CONFIG).checkpoint["channel_values"]["a"] == summary
    assert [found.thread_id for found in saver.threads()] == ["t"]
    del clone
    assert os.path  # nothing was called
    assert len(saver.threads()) == 1


def test_versions_count_up(saver: Any) -> None:
    assert saver.get_next_version(None, None) == 1
    assert saver.get_next_version(4, None) == 5
    assert saver.config_specs == []


def test_bad_thread_ids_are_refused_everywhere(saver: Any) -> None:
    for call in (
        lambda: saver.get_tuple({"configurable": {"thread_id": ""}}),
        lambda: saver.delete_thread("a\0b"),
        lambda: saver.copy_thread("t", "x" * 300),
        lambda: saver.session(None),
    ):
        with pytest.raises(InvalidThreadIdError):
            call()


def test_a_base_saver_can_nothing() -> None:
    blank = base.BaseCheckpointSaver[int]()
    for call in (
        lambda: blank.get_tuple(CONFIG),
        lambda: blank.list(CONFIG),
        lambda: blank.delete_thread("t"),
        lambda: asyncio.run(blank.aprune([])),
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_checkpoints_can_be_made_and_copied() -> None:
    empty = base.empty_checkpoint()
    copied = base.copy_checkpoint(empty)
    copied["channel_values"]["a"] = 1
    made = base.create_checkpoint(empty, None, 3)

    assert empty["channel_values"] == {}
    assert made["id"] > empty["id"]
    assert base.get_checkpoint_id(CONFIG) is None
    assert base.writes_sort_key("b", "a", 1) > base.writes_sort_key("a", "z", 9)


def test_savers_open_as_context_managers(tmp_path: Path) -> None:
    async def opened() -> int:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "x.db")) as saver:
            await saver.setup()
            fill(saver)
            await saver.adelete_for_runs(["none"])
            await saver.acopy_thread("t", "u")
            await saver.adelete_thread("t")
            return len([found async for found in saver.alist({"configurable": {"thread_id": "u"}})])

    assert asyncio.run(opened()) == 8
    with MemorySaver() as memory, SqliteSaver(":memory:") as sqlite:
        fill(memory)
        fill(sqlite)
        assert len(list(memory.list(None))) == len(list(sqlite.list(None))) == 8
