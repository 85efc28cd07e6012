"""Every kind of operation on a saver, each with what leads up to it: what the tests break in the middle.

An operation is told on a thread of its own tenant, by a blocking caller or on an event loop; `traces` is everything
that is stored of it, without what differs from run to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from clew.checkpoint.postgres import PostgresSaver
from tests.storage.kit import Run, write

LARGE = "x" * 200_000  # is kept apart from its step
OTHER = "1f0e0d0c-0b0a-4908-8706-050403020100"


class Blocking:
    """A saver as blocking callers use it."""

    def __init__(self, saver: PostgresSaver) -> None:
        self.saver = saver
        self.session = saver.session

    def run(self, op: Any) -> Any:
        return self.saver.run(op)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self.saver, method)(*arguments, **options)


class OnLoop:
    """The same saver as coroutines use it."""

    def __init__(self, saver: PostgresSaver, runner: asyncio.Runner) -> None:
        self.saver, self.runner = saver, runner
        self.session = saver.session

    def run(self, op: Any) -> Any:
        return self.runner.run(self.saver.arun(op))

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self.runner.run(getattr(self.saver, f"a{method}")(*arguments, **options))


Caller = Blocking | OnLoop
Act = Callable[[], Any]


@dataclass(frozen=True)
class Operation:
    """`prepare` does what leads up to it, and gives the operation itself."""

    name: str
    prepare: Callable[[Caller], Act]

    def __repr__(self) -> str:
        return self.name


def begun(caller: Caller, thread: str = "t", steps: int = 3, ns: str = "") -> Run:
    """A run that has made some steps."""
    run = Run(caller, thread)
    for number in range(steps):
        run.state["n"] = number
        run.commit(claim=number == 0, writes=[write(number)])
    if ns:
        child = Run(caller, thread, ns, session=run.session)
        child.state["child"] = 0
        child.commit()
    return run


def changed(run: Run, **state: Any) -> Run:
    run.state.update(state)
    return run


def first_step(caller: Caller) -> Act:
    run = changed(Run(caller, "t"), n=0)
    return lambda: run.commit(claim=True)


def claim_with_step(caller: Caller) -> Act:
    begun(caller)
    run = changed(Run(caller, "t"), n="next")
    return lambda: run.commit(claim=True)


def append(caller: Caller) -> Act:
    run = changed(begun(caller), n="next")
    return run.commit


def append_with_large_value(caller: Caller) -> Act:
    run = changed(begun(caller), large=LARGE)
    return run.commit


def fork(caller: Caller) -> Act:
    first = begun(caller, steps=1).cursor
    old = caller.run(caller.session("t").cursor().load()).checkpoint_id
    del first
    begun(caller)
    run = changed(Run(caller, "t", at=old), n="fork")
    return lambda: run.commit(claim=True)


def first_step_of_subgraph(caller: Caller) -> Act:
    run = begun(caller)
    child = changed(Run(caller, "t", "child", session=run.session), n="child")
    return child.commit


def step_of_subgraph(caller: Caller) -> Act:
    run = begun(caller)
    child = changed(Run(caller, "t", "child", session=run.session), n="child")
    child.commit()
    return changed(child, n="again").commit


def subgraph_takes_the_thread(caller: Caller) -> Act:
    begun(caller, ns="child")
    run = Run(caller, "t")
    child = changed(Run(caller, "t", "child", session=run.session), n="child")
    return lambda: child.commit(claim=True)


def unread_thread_is_taken(caller: Caller) -> Act:
    begun(caller)
    session = caller.session("t")
    cursor = session.cursor("child")
    caller.run(cursor.load())
    child = Run(caller, "t", "child", session=session)
    return changed(child, n="child").commit


def pending(caller: Caller) -> Act:
    run = begun(caller)
    return lambda: caller.run(run.cursor.save_writes([write("one"), write("two", OTHER)]))


def pending_of_subgraph(caller: Caller) -> Act:
    run = begun(caller, ns="child")
    child = Run(caller, "t", "child", session=run.session)
    return lambda: caller.run(child.cursor.save_writes([write("one")]))


def first_pending_of_subgraph(caller: Caller) -> Act:
    run = begun(caller)
    child = Run(caller, "t", "child", session=run.session)
    return lambda: caller.run(child.cursor.save_writes([write("one", OTHER), write(LARGE)]))


def bare_claim(caller: Caller) -> Act:
    begun(caller)
    run = Run(caller, "t")
    return lambda: caller.run(run.cursor.claim())


def bare_claim_of_new_thread(caller: Caller) -> Act:
    run = Run(caller, "t")
    return lambda: caller.run(run.cursor.claim())


def claim_with_writes(caller: Caller) -> Act:
    begun(caller)
    run = Run(caller, "t")
    return lambda: caller.run(run.cursor.claim([write("one"), write(LARGE, OTHER)]))


def config(checkpoint_id: str | None = None) -> Any:
    configurable = {"thread_id": "t", "checkpoint_ns": ""}
    return {"configurable": {**configurable, **({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}}


CHECKPOINT = {
    "v": 4, "id": "1ef4f797-8335-6428-8001-8a1503f9b875", "ts": "2024-07-31T20:14:19.804150+00:00",
    "channel_values": {"n": 1}, "channel_versions": {"n": 1}, "versions_seen": {}, "updated_channels": ["n"],
}  # fmt: skip


def put(caller: Caller) -> Act:
    begun(caller)
    return lambda: caller.call("put", config(), CHECKPOINT, {"source": "loop", "step": 1}, {"n": 1})


def put_again(caller: Caller) -> Act:
    act = put(caller)
    act()
    return act


def put_writes(caller: Caller) -> Act:
    begun(caller)
    stored = caller.call("get_tuple", config()).config
    return lambda: caller.call("put_writes", stored, [("n", 1), ("m", 2)], OTHER)


def put_writes_before(caller: Caller) -> Act:
    """Writes for a checkpoint that comes after them."""
    stored = config(CHECKPOINT["id"])

    def act() -> None:
        caller.call("put_writes", stored, [("n", 1)], OTHER)
        caller.call("put", config(), CHECKPOINT, {"source": "loop", "step": 1}, {"n": 1})

    return act


def copy(caller: Caller) -> Act:
    changed(begun(caller, ns="child"), large=LARGE).commit()
    return lambda: caller.call("copy_thread", "t", "copied")


def prune(caller: Caller) -> Act:
    run = changed(begun(caller, ns="child"), large=LARGE)
    run.commit()
    changed(run, large="small").commit()
    changed(run, n="last").commit()
    return lambda: caller.call("prune", ["t"], keep_last=2)


def delete(caller: Caller) -> Act:
    changed(begun(caller, ns="child"), large=LARGE).commit()
    return lambda: caller.call("delete_thread", "t")


def delete_run(caller: Caller) -> Act:
    begun(caller)
    run = changed(Run(caller, "t", run_id="2f0e0d0c-0b0a-4908-8706-050403020100"), n="run")
    run.commit(claim=True)
    changed(Run(caller, "t"), n="after").commit(claim=True)
    return lambda: caller.call("delete_for_runs", [run.run_id])


def load(caller: Caller) -> Act:
    run = changed(begun(caller), large=LARGE)
    run.commit()
    caller.run(run.cursor.save_writes([write("one")]))
    caller.saver.heads.drop(caller.saver.tenant, "t")
    return lambda: Run(caller, "t").state


def listing(caller: Caller) -> Act:
    begun(caller, ns="child")
    if isinstance(caller, Blocking):
        return lambda: len(list(caller.saver.list(config())))

    async def collected() -> int:
        return len([one async for one in caller.saver.alist(config())])

    return lambda: caller.runner.run(collected())


def threads(caller: Caller) -> Act:
    begun(caller)
    return lambda: [one.thread_id for one in caller.call("threads")]


OPERATIONS = [
    Operation(function.__name__, function)
    for function in (
        first_step, claim_with_step, append, append_with_large_value, fork, first_step_of_subgraph, step_of_subgraph,
        subgraph_takes_the_thread, unread_thread_is_taken, pending, pending_of_subgraph, first_pending_of_subgraph,
        bare_claim, bare_claim_of_new_thread, claim_with_writes, put, put_again, put_writes, put_writes_before, copy,
        prune, delete, delete_run, load, listing, threads,
    )
]  # fmt: skip
WRITES = [one for one in OPERATIONS if one.prepare not in (load, listing, threads)]
BY_NAME = {one.name: one for one in OPERATIONS}

_TRACES = (
    """select 'head', thread, ns, epoch, branch, seq, key_seq, top_branch, root_branch, root_seq, owner is null
         from clew_head where tenant = %(tenant)s order by thread, ns""",
    """select 'step', head.thread, head.ns, step.branch, step.seq, step.key_seq, step.root_branch, step.root_seq
         from clew_step as step join clew_head as head using (tenant, line)
        where tenant = %(tenant)s order by thread, ns, step.branch, step.seq""",
    """select 'fork', head.thread, head.ns, fork.branch, fork.parent_branch, fork.parent_seq
         from clew_fork as fork join clew_head as head using (tenant, line)
        where tenant = %(tenant)s order by thread, ns, fork.branch""",
    """select 'pending', head.thread, head.ns, pending.branch, pending.seq, pending.task_id, pending.epoch
         from clew_pending as pending join clew_head as head using (tenant, line)
        where tenant = %(tenant)s order by thread, ns, pending.branch, pending.seq, task_id""",
    "select 'spill', thread, hash from clew_spill where tenant = %(tenant)s order by thread, hash",
    """select 'lost', count(*) from (select line from clew_step where tenant = %(tenant)s
        union all select line from clew_pending where tenant = %(tenant)s
        union all select line from clew_fork where tenant = %(tenant)s) as row
        where line not in (select line from clew_head where tenant = %(tenant)s)""",
)


def traces(database: str, tenant: str) -> list[tuple[Any, ...]]:
    """What is stored of a tenant: every row, without numbers that are drawn and times."""
    with psycopg.connect(database) as connection:
        return [row for query in _TRACES for row in connection.execute(query, {"tenant": tenant})]
