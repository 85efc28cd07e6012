"""What a run reads is what runs have committed: state, history, writes, forks and namespaces."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from clew.errors import CheckpointNotFoundError, SerializationError
from clew.ids import checkpoint_id
from clew.protocols import Saved
from clew.testing._kit import Conformance, equal, holds, refused
from clew.testing._runs import TASK, Run, found, history, load, write
from clew.testing._values import STANDARD, Unknown, differing

OTHER = TASK.replace("0f0e", "1f1e")


class LogChecks(Conformance):
    """Reading and writing through `clew.protocols.Saver`, one caller at a time."""

    def test_a_thread_that_never_ran_has_nothing(self) -> None:
        saver = self.subject
        equal(load(saver, "t"), None, "a load of a new thread gives nothing")
        equal(history(saver, "t"), [], "a new thread has no history")
        with refused(CheckpointNotFoundError, "a load of a checkpoint that there is not"):
            load(saver, "t", at=checkpoint_id())

    def test_a_commit_reads_back(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        before = datetime.now(UTC)
        run.state = {"a": [1, {"b": 2}], "n": 1, "text": "x" * 500}
        first = run.commit(claim=True, note="hello")
        run.state["n"] = 2
        second = run.commit(["n"])

        head = found(saver, "t")
        equal(head.values, {"a": [1, {"b": 2}], "n": 2, "text": "x" * 500}, "the newest state")
        equal(head.versions, run.versions, "the versions of its channels")
        equal(head.seen, run.seen, "what its nodes have seen")
        equal(head.updated, ("n",), "the channels that its superstep updated")
        equal((head.checkpoint_id, head.parent_id), (second, first), "its id, and its parent's")
        equal((head.ns, head.is_head), ("", True), "its namespace, and that it is the newest")
        old = found(saver, "t", at=first)
        equal(old.metadata.get("note"), "hello", "metadata of a past checkpoint")
        equal((old.values["n"], old.parent_id, old.is_head), (1, None, False), "a past checkpoint")
        made = datetime.fromisoformat(old.created_at)
        holds(abs((made - before).total_seconds()) < 300, f"created_at is when it was made, not {old.created_at}")

    def test_a_channel_that_became_empty_is_gone(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state = {"a": 1, "b": 2}
        first = run.commit(claim=True)
        del run.state["a"]
        run.commit()

        equal(found(saver, "t").values, {"b": 2}, "the state without the channel that became empty")
        equal(found(saver, "t", at=first).values, {"a": 1, "b": 2}, "the state before that")

    def test_every_step_of_a_long_thread_reads_back(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state = {"log": [], "facts": {}, "text": "a" * 3000}
        states: list[Any] = []
        for turn in range(60):
            match turn % 6:
                case 0 | 1 | 2:
                    run.state["log"].append({"turn": turn})
                case 3:
                    run.state["facts"][f"k{turn % 12}"] = [turn]
                case 4:
                    run.state["text"] = f"{run.state['text'][:1000]}{turn}{run.state['text'][1000:]}"
                case _:
                    del run.state["log"][turn % len(run.state["log"])]
            run.commit()
            states.append(copy.deepcopy(run.state))

        listed = history(saver, "t")
        equal([saved.values for saved in listed], states[::-1], "every state, newest first")
        for saved in listed[::7]:
            equal(found(saver, "t", at=saved.checkpoint_id).values, saved.values, "a past state, read by itself")

    def test_checkpoint_ids_only_grow(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        ids = [run.commit(claim=number == 0) for number in range(20)]
        child = Run(saver, "t", "child", session=run.session)
        ids += [child.commit(), run.commit(), child.commit()]
        equal(ids, sorted(ids), "checkpoint ids in the order of their commits")
        far = checkpoint_id("ffffffff-ffff-6000-8000-000000000000")  # made by a clock that was wrong
        equal(far, max(far, *ids), "an id above all others")
        saver.run(run.cursor.commit(run.step([]), checkpoint_id=far).op)
        later = Run(saver, "t").commit(claim=True)
        holds(later > far, f"an id ({later}) is above the largest its thread has had ({far})")
        equal([saved.checkpoint_id for saved in history(saver, "t")][:2], [later, far], "history by id, newest first")

    def test_histories_are_limited_filtered_and_cut(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        ids = [run.commit(kind="even" if n % 2 == 0 else "odd", n=n) for n in range(10)][::-1]

        def listed(**query: Any) -> list[str]:
            return [saved.checkpoint_id for saved in history(saver, "t", **query)]

        equal(listed(), ids, "a whole history, newest first")
        equal(listed(limit=3), ids[:3], "its first three")
        equal(listed(limit=0), [], "no more than 0")
        equal(listed(before=ids[4]), ids[5:], "those before a checkpoint, exclusive")
        equal(listed(filter={"kind": "odd"}), ids[::2], "those whose metadata have a value")
        equal(listed(filter={"kind": "odd"}, limit=2, before=ids[1]), ids[2:6:2], "limit counts after filtering")
        equal(listed(filter={"kind": "odd", "n": 3}), [ids[6]], "every key of a filter counts")
        equal(listed(filter={"kind": "none"}), [], "a filter that fits nothing")
        equal(listed(filter={"' or 1=1 --": "odd"}), [], "a filter's key is only data")

    def test_what_a_node_changes_later_is_not_stored(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state = {"log": [{"n": 1}], "deep": {"a": [1]}}
        committed = run.cursor.commit(run.step(), claim=True)
        pending = [{"n": 1}]
        run.state["log"][0]["n"] = 2
        run.state["deep"]["a"].append(2)
        saver.run(committed.op)
        op = run.cursor.save_writes([write(pending)])
        pending.append({"n": 2})
        saver.run(op)

        head = found(saver, "t")
        equal(head.values, {"log": [{"n": 1}], "deep": {"a": [1]}}, "the state as it was when the commit was built")
        equal(head.pending[0].writes, [("messages", [{"n": 1}])], "a write as it was when its save was built")
        head.values["log"].append("mine")
        head.values["deep"]["a"].append("mine")
        equal(found(saver, "t").values["deep"], {"a": [1]}, "what a reader does to its copy stays there")
        run.state["log"][0]["n"] = 3
        run.commit()
        equal(found(saver, "t").values["log"], [{"n": 3}], "a change in place is found by the next commit")
        equal(found(saver, "t", at=committed.checkpoint_id).values["log"], [{"n": 1}], "and not by the one before")

    def test_standard_values_come_back_exactly(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state = copy.deepcopy(STANDARD)
        first = run.commit(claim=True, writes=[write(STANDARD)])
        run.save(write(STANDARD))

        read = found(saver, "t")
        equal(differing(read.values, STANDARD), [], "no value of a standard type is changed by storing it")
        equal(differing(dict(read.pending[0].writes)["messages"], STANDARD), [], "nor one in a write")
        run.state["order"] = {"a": 2, "z": 1}
        run.commit()
        equal(list(found(saver, "t").values["order"]), ["a", "z"], "a new order of keys is a change")
        equal(list(found(saver, "t", at=first).values["order"]), ["z", "a"], "and the old one is kept")

    def test_values_of_unknown_types_are_refused_when_they_are_written(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state = {"n": 1}
        run.commit(claim=True)
        run.state["thing"] = [Unknown()]

        with refused(SerializationError, "a commit of a value of an unknown type"):
            run.cursor.commit(run.step())
        other = Run(saver, "t")
        with refused(SerializationError, "a write of a value of an unknown type"):
            other.cursor.save_writes([write(Unknown())])
        equal([saved.values for saved in history(saver, "t")], [{"n": 1}], "nothing of it was stored")

        knowing = Run(saver, "t", session=saver.session("t", types=frozenset([Unknown])))
        knowing.state["thing"] = [Unknown()]
        knowing.commit(claim=True)
        read = saver.run(saver.session("t", types=frozenset([Unknown])).cursor().load())
        holds(type(read.values["thing"][0]) is Unknown, "a class that the session names is known")
        with refused(SerializationError, "a load by a session that does not know the class"):
            load(saver, "t")

    def test_pending_writes_wait_and_then_belong_to_the_next_step(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        first = run.commit([], claim=True)
        run.save(write("two", OTHER), write("one"))
        run.save(write("replaced"))

        def shown(saved: Saved) -> list[Any]:
            return [(task.task_id, list(task.writes), task.path, task.name) for task in saved.pending]

        waiting = [(task, [("messages", value)], f"path {task}", "node") for task, value in _PAIRS]
        equal(shown(found(saver, "t")), waiting, "writes behind the head, in the order of their tasks' paths")
        run.commit([], writes=[write("replaced")])
        equal(shown(found(saver, "t")), [], "the next step has consumed them")
        equal(shown(found(saver, "t", at=first)), waiting[:1], "a past checkpoint shows what its child consumed")
        equal([shown(saved) for saved in history(saver, "t")], [[], waiting[:1]], "and so does history")

    def test_a_claim_saves_its_writes(self) -> None:
        saver = self.subject
        Run(saver, "t").commit([], claim=True)
        run = Run(saver, "t")
        saver.run(run.cursor.claim([write("answer")]))

        equal([task.writes for task in found(saver, "t").pending], [[("messages", "answer")]], "a claim's writes")
        equal(len(history(saver, "t")), 1, "a claim makes no checkpoint")

    def test_a_fork_and_its_original_never_see_each_other(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.state["log"] = ["a"]
        fork_at = run.commit(claim=True)
        run.state["log"].append("b")
        run.commit()
        run.state["log"].append("c")
        last = run.commit()
        run.save(write("waits"))

        fork = Run(saver, "t", at=fork_at)
        fork.state["log"].append("x")
        fork.commit(claim=True)
        fork.state["log"].append("y")
        tip = fork.commit()

        equal(found(saver, "t").values, {"log": ["a", "x", "y"]}, "the fork is the head now")
        equal(found(saver, "t").checkpoint_id, tip, "the newest id is the fork's")
        old = found(saver, "t", at=last)
        equal(old.values, {"log": ["a", "b", "c"]}, "the original's state")
        equal([task.writes for task in old.pending], [[("messages", "waits")]], "and the writes behind it")
        equal(found(saver, "t").pending, [], "which are not the fork's")
        states = ["".join(saved.values["log"]) for saved in history(saver, "t")]
        equal(states, ["axy", "ax", "abc", "ab", "a"], "history shows all branches by id")
        parents = [saved.parent_id for saved in history(saver, "t")]
        equal(
            (parents[1], parents[3], parents[4]), (fork_at, fork_at, None), "both branches begin at the fork's parent"
        )

    def test_namespaces_and_threads_are_apart(self) -> None:
        saver = self.subject
        names = ["t", "T", "t ", "t/child", "t%", "t_", "../t", "\u00e9", "e\u0301", "t|child"]
        for number, thread in enumerate(names):
            run = Run(saver, thread)
            run.state["n"] = number
            run.commit(claim=True)
            child = Run(saver, thread, "child", session=run.session)
            equal(child.state, {}, "a namespace begins empty")
            child.state["m"] = number
            child.commit()
        foreign = found(saver, "T").checkpoint_id
        for number, thread in enumerate(names):
            equal([saved.values for saved in history(saver, thread)], [{"n": number}], f"the history of {thread!r}")
            equal([saved.values for saved in history(saver, thread, "child")], [{"m": number}], "and of its child")
            if thread != "T":
                with refused(CheckpointNotFoundError, "a load of another thread's checkpoint"):
                    load(saver, thread, at=foreign)
        equal(history(saver, "t", "chil"), [], "a namespace is not a prefix")

    def test_a_subgraph_remembers_along_the_line_of_its_root(self) -> None:
        saver = self.subject

        def turn(value: str, at: str | None = None) -> str:
            run = Run(saver, "t", at=at)
            first = run.commit([], claim=True)
            child = Run(saver, "t", "child", session=run.session)
            child.state.setdefault("memory", []).append(value)
            child.commit()
            return run.commit([]) or first

        def memory(at: str | None = None) -> Any:
            run = Run(saver, "t", at=at)
            return Run(saver, "t", "child", session=run.session).state.get("memory")

        first = turn("a")
        second = turn("b")
        equal(memory(), ["a", "b"], "a subgraph remembers the turns before")
        turn("c", at=first)
        equal(memory(), ["a", "c"], "on a fork it has not seen what came after")
        equal(memory(at=second), ["a", "b"], "and the original's memory is as it was")

    def test_a_namespace_can_begin_from_another_one_s_checkpoint(self) -> None:
        saver, run = self.subject, Run(self.subject, "t")
        run.commit([], claim=True)
        child = Run(saver, "t", "child", session=run.session)
        child.state["memory"] = ["a"]
        child.commit()
        cursor = run.session.cursor("other")
        saved = saver.run(cursor.load(from_ns="child"))
        equal(saved and saved.values, {"memory": ["a"]}, "what the other namespace has")
        saver.run(cursor.commit(child.step([])).op)

        own = found(saver, "t", "other")
        equal((own.values, own.parent_id), ({"memory": ["a"]}, None), "a branch of its own that begins there")
        equal(len(history(saver, "t", "child")), 1, "the other namespace is as it was")


_PAIRS = ((TASK, "replaced"), (OTHER, "two"))
