"""Checkpoints addressed by id: the field's method names, and maintenance. Each check calls both twins of a method."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from clew.checkpoint.base import Checkpoint, CheckpointTuple, empty_checkpoint
from clew.errors import InvalidThreadIdError, StorageError, ThreadConflictError
from clew.ids import checkpoint_id
from clew.testing._kit import Conformance, equal, needs, refused
from clew.testing._runs import TASK, Run, found, history, load, write
from clew.testing._values import STANDARD, differing


class Twins:
    """The face of a saver, called through its blocking methods or through their async twins."""

    def __init__(self, saver: Any, *, is_async: bool) -> None:
        self.saver = saver
        self.is_async = is_async

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self.is_async:
            return getattr(self.saver, name)
        method = getattr(self.saver, f"a{name}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))

    def list(self, *args: Any, **kwargs: Any) -> list[CheckpointTuple]:
        """All that a listing gives."""
        if not self.is_async:
            return [*self.saver.list(*args, **kwargs)]

        async def collected() -> list[CheckpointTuple]:
            return [one async for one in self.saver.alist(*args, **kwargs)]

        return asyncio.run(collected())


def on(thread: Any = "t", **configurable: Any) -> dict[str, Any]:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": "", **configurable}}


def made(values: dict[str, Any], version: int) -> Checkpoint:
    """A checkpoint with a new id."""
    versions: dict[str, Any] = dict.fromkeys(values, version)
    return {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}


def ids(listed: list[CheckpointTuple]) -> list[str]:
    """The checkpoint ids of a listing."""
    return [one.checkpoint["id"] for one in listed]


class FaceChecks(Conformance):
    """The methods that callers with checkpoint ids use."""

    has_tenants = True

    def faces(self) -> list[Twins]:
        """Both ways to call the saver."""
        return [Twins(self.subject, is_async=is_async) for is_async in (False, True)]

    def chain(self, face: Twins, thread: str, count: int = 5, **metadata: Any) -> list[dict[str, Any]]:
        """Put a line of checkpoints whose channel "n" counts up; gives their configs, oldest first."""
        configs: list[dict[str, Any]] = []
        config, last = on(thread), None
        for number in range(count):
            checkpoint = made({"n": number, "log": list(range(number))}, number + 1)
            checkpoint["id"] = last = checkpoint_id(last)
            config = face.put(config, checkpoint, {"step": number, **metadata}, checkpoint["channel_versions"])
            configs.append(config)
        return configs

    def test_checkpoints_are_read_back_by_id(self) -> None:
        for number, face in enumerate(self.faces()):
            thread = f"t{number}"
            equal(face.get_tuple(on(thread)), None, "a thread that has nothing")
            configs = self.chain(face, thread)
            for index, config in enumerate(configs):
                one = face.get_tuple(config)
                equal(one.config, config, "the config of a checkpoint leads back to it")
                equal(one.checkpoint["channel_values"], {"n": index, "log": list(range(index))}, "its values")
                equal(one.metadata["step"], index, "its metadata")
                equal(one.parent_config, configs[index - 1] if index else None, "its parent")
            equal(face.get_tuple(on(thread)).config, configs[-1], "without an id it is the newest")
            equal(face.get_tuple(on(thread, checkpoint_id=checkpoint_id())), None, "an id that there is not")

    def test_standard_values_come_back_exactly_by_id(self) -> None:
        for number, face in enumerate(self.faces()):
            config = face.put(on(f"t{number}"), made(dict(STANDARD), 1), {}, dict.fromkeys(STANDARD, 1))
            face.put_writes(config, list(STANDARD.items()), TASK)
            one = face.get_tuple(config)
            equal(differing(one.checkpoint["channel_values"], STANDARD), [], "values that changed")
            written = {channel: value for _, channel, value in one.pending_writes}
            equal(differing(written, STANDARD), [], "writes that changed")

    def test_lists_are_ordered_filtered_limited_and_cut(self) -> None:
        for number, face in enumerate(self.faces()):
            one, other = f"one{number}", f"other{number}"
            first, second = self.chain(face, one, user="a"), self.chain(face, other, user="b")
            newest = [config["configurable"]["checkpoint_id"] for config in first][::-1]
            equal(ids(face.list(on(one))), newest, "a thread's checkpoints, newest first")
            equal(ids(face.list(on(one), limit=2)), newest[:2], "at most two")
            equal(ids(face.list(on(one), limit=0)), [], "at most none")
            equal(ids(face.list(on(one), before=first[2])), newest[3:], "those before one, exclusive")
            equal(ids(face.list(on(one), filter={"step": 3})), newest[1:2], "those with a value in their metadata")
            equal(ids(face.list(on(one), filter={"step": 3, "user": "b"})), [], "every key of a filter counts")
            equal(ids(face.list(on(one), filter={"' or 1=1 --": 3})), [], "a filter's key is only data")
            equal(ids(face.list(on(one), filter={"step') or ('1'='1": 3})), [], "whatever it holds")
            equal(len(face.list(None, filter={"user": "b"})), 5 * (number + 1), "of all threads")
            own = second[1]["configurable"]["checkpoint_id"]
            equal(ids(face.list(on(other, checkpoint_id=own))), [own], "the one that a config names")
            equal(ids(face.list(on(one, checkpoint_id=own))), [], "which is no other thread's")

    def test_writes_are_kept_in_order_and_only_special_ones_are_replaced(self) -> None:
        for number, face in enumerate(self.faces()):
            config = self.chain(face, f"t{number}", 1)[0]
            face.put_writes(config, [("a", 1), ("b", 2), ("a", 3)], "task-1", "path 1")
            face.put_writes(config, [("a", 10), ("b", 20), ("a", 30), ("c", 40)], "task-1", "path 1")
            face.put_writes(config, [("a", 4)], "task-0", "path 2")
            face.put_writes(config, [("__error__", "first")], "task-2", "path 3")
            face.put_writes(config, [("__error__", "second")], "task-2", "path 3")
            writes = face.get_tuple(config).pending_writes
            expected = [("task-1", "a", 1), ("task-1", "b", 2), ("task-1", "a", 3), ("task-1", "c", 40)]
            expected += [("task-0", "a", 4), ("task-2", "__error__", "second")]
            equal(writes, expected, "writes by path; a repeated one stays as it was, a special one is replaced")

    def test_a_checkpoint_beside_the_newest_is_a_fork(self) -> None:
        for number, face in enumerate(self.faces()):
            thread = f"t{number}"
            configs = self.chain(face, thread, 3)
            fork = made({"n": "fork"}, 9)
            fork["id"] = checkpoint_id(configs[-1]["configurable"]["checkpoint_id"])
            stored = face.put(configs[0], fork, {}, {"n": 9})
            equal(face.get_tuple(on(thread)).config, stored, "the largest id is the newest")
            equal(face.get_tuple(stored).parent_config, configs[0], "its parent is the one it was put on")
            equal(face.get_tuple(configs[2]).checkpoint["channel_values"]["n"], 2, "the original is as it was")
            equal(face.get_tuple(configs[2]).parent_config, configs[1], "and so is its line")

    def test_a_deleted_thread_leaves_nothing_and_stops_its_runs(self) -> None:
        for face in self.faces():
            run = Run(self.subject, "t")
            run.state["n"] = 1
            run.commit(claim=True)
            child = Run(self.subject, "t", "child", session=run.session)
            child.commit([])
            run.save(write("waits"))
            kept = Run(self.subject, "kept")
            kept.commit([], claim=True)

            face.delete_thread("t")
            face.delete_thread("t")

            equal(load(self.subject, "t"), None, "a deleted thread")
            equal(face.list(on("t")), [], "and its list")
            equal(history(self.subject, "t", "child"), [], "and its namespaces")
            holder = Run(self.subject, "t")
            equal(holder.loaded, None, "a new thread of that name begins empty")
            holder.commit([], claim=True)
            with refused(ThreadConflictError, "a commit by a run whose thread was deleted"):
                run.commit()
            equal(found(self.subject, "t").pending, [], "what waited on the deleted thread does not wait here")
            equal(history(self.subject, "t", "child"), [], "nor is its namespace back")
            kept.commit([])
            face.delete_thread("t")
            face.delete_thread("kept")

    def test_pruning_keeps_the_newest_of_each_namespace_as_it_was(self) -> None:
        for number, face in enumerate(self.faces()):
            threads = [f"{number}-{name}" for name in ("a", "b", "kept")]
            runs: list[Run] = []
            for thread in threads:
                run = Run(self.subject, thread)
                for turn in range(8):
                    run.state.setdefault("log", []).append(turn)
                    run.commit(claim=turn == 0)
                    child = Run(self.subject, thread, "child", session=run.session)
                    child.state["m"] = turn
                    child.commit()
                run.save(write("waits"))
                runs.append(run)

            face.prune(threads[:2])

            for thread, run in zip(threads[:2], runs[:2], strict=True):
                head = found(self.subject, thread)
                equal(head.values, {"log": list(range(8))}, "the newest state of a pruned thread")
                equal(head.parent_id, None, "a parent that was pruned reads as none")
                equal([task.writes for task in head.pending], [[("messages", "waits")]], "what waits behind it")
                equal([saved.values for saved in history(self.subject, thread, "child")], [{"m": 7}], "its subgraph's")
                run.state["log"].append("on")
                run.commit()
                equal(len(history(self.subject, thread)), 2, "a run goes on while its thread is pruned")
            equal(len(history(self.subject, threads[2])), 8, "a thread that was not named")
            face.prune(threads[:1], strategy="delete")
            equal(face.list(on(threads[0])), [], "a thread that was pruned altogether")
            with refused(ValueError, "a strategy that there is not"):
                face.prune(threads, strategy="some")

    def test_a_copy_is_a_thread_of_its_own(self) -> None:
        for number, face in enumerate(self.faces()):
            source, target = f"source{number}", f"target{number}"
            run = Run(self.subject, source)
            for turn in range(4):
                run.state.setdefault("log", []).append(turn)
                run.state["large"] = "x" * 100_000
                run.commit(claim=turn == 0)
            Run(self.subject, source, "child", session=run.session).commit([])
            run.save(write("waits"))
            before = [(saved.values, saved.metadata) for saved in history(self.subject, source)]

            face.copy_thread(source, target)

            copied = history(self.subject, target)
            equal([(saved.values, saved.metadata) for saved in copied], before, "the copied history")
            equal([task.writes for task in copied[0].pending], [[("messages", "waits")]], "and what waits")
            equal(len(history(self.subject, target, "child")), 1, "and its namespaces")
            with refused(StorageError, "a copy onto a thread that exists"):
                face.copy_thread(source, target)
            Run(self.subject, target).commit([], claim=True)
            run.state["log"].append("on")
            run.commit()
            equal(len(history(self.subject, target)), 5, "the copy goes its own way")
            face.delete_thread(source)
            equal(found(self.subject, target).values["large"], "x" * 100_000, "and outlives its source")

    def test_deleting_runs_takes_their_checkpoints_alone(self) -> None:
        for number, face in enumerate(self.faces()):
            names = [f"{number}0000000-0000-4000-8000-00000000000{digit}" for digit in range(3)]
            for thread in ("a", "b"):
                for name in names[:2]:
                    run = Run(self.subject, f"{thread}{number}", run_id=name)
                    for turn in range(3):
                        run.state.setdefault("log", []).append([name, turn])
                        run.commit(claim=turn == 0)
            last = Run(self.subject, f"a{number}", run_id=names[2])
            last.state["log"].append("last")
            last.commit(claim=True)
            expected = [saved.values for saved in history(self.subject, f"a{number}")]

            face.delete_for_runs([names[1], "no such run"])

            left = [saved.values for saved in history(self.subject, f"a{number}")]
            equal(left, [expected[0], *expected[4:]], "what other runs made, as it was")
            equal(len(history(self.subject, f"b{number}")), 3, "on every thread")

    def test_bad_thread_ids_are_refused_by_every_method(self) -> None:
        for face in self.faces():
            checkpoint = empty_checkpoint()
            for bad in ("", "a\x00b", "x" * 256, "\ud800", 1.5):
                calls: list[tuple[str, Callable[[], Any]]] = [
                    ("get_tuple", lambda: face.get_tuple(on(bad))),  # noqa: B023 - called at once
                    ("list", lambda: face.list(on(bad))),  # noqa: B023
                    ("put", lambda: face.put(on(bad), checkpoint, {}, {})),  # noqa: B023
                    ("put_writes", lambda: face.put_writes(on(bad, checkpoint_id="x"), [], "task")),  # noqa: B023
                    ("delete_thread", lambda: face.delete_thread(bad)),  # noqa: B023
                    ("copy_thread", lambda: face.copy_thread("t", bad)),  # noqa: B023
                    ("prune", lambda: face.prune([bad])),  # noqa: B023
                ]
                for name, call in calls:
                    with refused(InvalidThreadIdError, f"{name} of thread {bad!r}"):
                        call()

    @needs("has_tenants")
    def test_a_config_names_its_tenant(self) -> None:
        for number, face in enumerate(self.faces()):
            thread, other = f"t{number}", {"checkpoint_tenant": "other"}
            mine = on(thread, checkpoint_tenant="acme")
            config = face.put(mine, made({"n": 1}, 1), {}, {"n": 1})
            equal(config["configurable"].get("checkpoint_tenant"), "acme", "a config leads back to its tenant")
            equal(face.get_tuple(config).config, config, "the checkpoint it addresses")
            equal(len(face.list(mine)), 1, "the tenant's list")
            for stranger in ({}, other):
                equal(face.get_tuple(on(thread, **stranger)), None, "the same thread id of another tenant")
                named = {key: value for key, value in config["configurable"].items() if key != "checkpoint_tenant"}
                equal(face.get_tuple({"configurable": {**named, **stranger}}), None, "the same checkpoint id")
                equal(face.list(on(thread, **stranger)), [], "the list of another tenant")

    @needs("has_tenants")
    def test_maintenance_reaches_one_tenant_alone(self) -> None:
        name = "00000000-0000-4000-8000-000000000001"
        for is_async in (False, True):
            for tenant in ("", "acme"):
                for turn in range(4):
                    run = Run(self.subject, "t", session=self.subject.session("t", tenant=tenant), run_id=name)
                    run.state["n"] = turn
                    run.commit(claim=True)
            acme = Twins(self.subject.with_tenant("acme"), is_async=is_async)
            count = len(history(self.subject, "t"))

            acme.copy_thread("t", "copy")
            acme.prune(["t"])
            acme.delete_for_runs([name])
            acme.delete_thread("t")
            acme.delete_thread("copy")

            equal(acme.list(None), [], "the tenant's threads are gone")
            equal(len(history(self.subject, "t")), count, "another tenant's thread of that name is as it was")
            equal(load(self.subject, "copy"), None, "and has no copy")
