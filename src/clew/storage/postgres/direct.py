"""What a run writes, in one statement each: fence, claim, step, spent writes and large leaves together.

The rules of `clew.storage.log` say the same in several statements, whose answers decide whether the next one is sent;
here the head row's update decides, and everything else is selected from it. No row from the last `select`: another run
has the thread, and nothing was changed.

A namespace's line is a number that is drawn here, so that what follows can name it before it is stored.
"""

from __future__ import annotations

import itertools
import random
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from clew.storage.log import NewStep
from clew.storage.operation import Intent, Touch
from clew.storage.postgres.wire import Call
from clew.storage.session import LogSession

Fence = Literal["same", "claim", "new", "child", "child_new"]


EPOCH_BITS = 20


class StepShape(NamedTuple):
    """Which statement a step needs: how its namespace is fenced, and what travels with it."""

    fence: Fence
    forks: bool = False
    spills: bool = False
    touches: bool = False
    guards: bool = False


class TasksShape(NamedTuple):
    """Which statement saved writes or a bare claim need. `line`: of the root, or one that is there, or to be made."""

    fence: Literal["same", "claim", "new"]
    line: Literal["root", "known", "made"] = "root"
    tasks: bool = False
    spills: bool = False
    touches: bool = False
    guards: bool = False


_random = random.SystemRandom()  # a program that seeds `random` must not be given another's numbers


def new_line() -> int:
    """A number for a namespace that no other will ever have, short of a miracle."""
    return _random.getrandbits(62) + 1


def next_epoch(epoch: int) -> int:
    """A larger epoch that no other run will set: a server that crashed, or was replaced, may have lost a claim, and the
    run that made it must not pass for the one that claims the thread after it."""
    return epoch + 1 + _random.getrandbits(EPOCH_BITS)


def call_of(intent: Intent) -> Call | None:
    """The statement for an operation, the same one when asked again; None if only its rule can do it.

    From here on the session counts as being where the statement takes it: if that fails, the session is over.
    """
    if intent.call is None:
        intent.call = _call(intent) or False
    return intent.call or None


def lookup_of(intent: Intent) -> Call | None:
    """Asks whether the statement was carried out, after the connection was lost; None if nothing can tell."""
    call: Call | None = intent.call or None
    session, tenant = intent.cursor.session, intent.cursor.place.tenant
    if call is None:
        return None
    if intent.step is not None:
        return Call(_STEP_IS_THERE, (tenant, call.params[1], intent.step.row.checkpoint_id))
    if intent.claim is not None:
        return Call(_CLAIM_IS_OURS, (tenant, session.root_line, session.epoch, session.node))
    return None


_STEP_IS_THERE = "select 1 from clew_step where tenant = $1 and line = $2 and checkpoint_id = $3"
_CLAIM_IS_OURS = "select 1 from clew_head where tenant = $1 and line = $2 and epoch = $3 and owner = $4"


def _call(intent: Intent) -> Call | None:
    claim = intent.claim
    if claim is not None and (not claim.is_known or intent.cursor.ns):
        return None
    if intent.touch is not None and intent.touch.title is not None and intent.cursor.place.vault.keys is not None:
        if claim is None or claim.expected is None:
            return None  # a title under a key is part of a row that has to be read first
    session = intent.cursor.session
    if claim is not None:
        if claim.expected is None:
            session.root_line, session.epoch = new_line(), 1
        else:
            session.root_line, session.epoch = claim.expected.line, next_epoch(claim.expected.epoch)
    if intent.step is not None:
        return _step_call(intent, intent.step, session)
    return _tasks_call(intent, session)


def _step_call(intent: Intent, step: NewStep, session: LogSession) -> Call:
    cursor, row = intent.cursor, step.row
    before = step.expected or (0, 0)
    # A difference takes its keyframe from the head row: pruning may have moved it since the cursor was loaded.
    key_seq = row.key_seq if row.key_seq == row.seq else None
    fence: Fence
    extra: tuple[Any, ...]
    if cursor.ns:
        if intent.makes_line:
            cursor.line = new_line()
            fence, extra = "child_new", (session.root_line, session.epoch, cursor.place.thread, cursor.ns)
        else:
            fence, extra = "child", (session.root_line, session.epoch, *before)
        assert cursor.line is not None, "the first write of the cursor has named the line"
        line = cursor.line
    else:
        cursor.line = line = session.root_line
        if intent.claim is None:
            fence, extra = "same", (*before, session.epoch)
        elif intent.claim.expected is None:
            fence, extra = "new", (session.epoch, session.node, cursor.place.thread)
        else:
            fence, extra = "claim", (*before, intent.claim.expected.epoch, session.epoch, session.node)
    params: tuple[Any, ...] = (
        cursor.place.tenant, line, row.branch, row.seq, key_seq, step.since, row.checkpoint_id, row.root_branch,
        row.root_seq, row.run_id, row.created_at, row.body, *extra,
    )  # fmt: skip
    if step.origin is not None:
        params += step.origin
    if intent.spills:
        params += _spill_params(intent)
    if intent.touch is not None:
        params += _touch_params(intent, intent.touch)
    guard = None if intent.claim is None else session.guard
    params += guard or ()
    shape = StepShape(fence, step.origin is not None, bool(intent.spills), intent.touch is not None, guard is not None)
    return Call(step_text(shape), params)


def _tasks_call(intent: Intent, session: LogSession) -> Call:
    cursor, claim = intent.cursor, intent.claim
    params: tuple[Any, ...] = (cursor.place.tenant, session.root_line, session.epoch)
    line: Literal["root", "known", "made"] = "root"
    if claim is None:
        fence = "same"
    elif claim.expected is None:
        fence = "new"
        params += (session.node, cursor.place.thread)
    else:
        fence, known = "claim", claim.expected
        top = known.top_branch if claim.reserve is None else max(claim.reserve, known.top_branch)
        params += (session.node, known.branch, known.seq, known.epoch, top)
    if cursor.ns and intent.tasks:
        line = "made" if intent.makes_line else "known"
        if intent.makes_line:
            cursor.line = new_line()
            params += (cursor.line, cursor.place.thread, cursor.ns)
        else:
            params += (cursor.line,)
    if intent.tasks:
        params += (*intent.position, [id for id, _ in intent.tasks], [body for _, body in intent.tasks])
    if intent.spills:
        params += _spill_params(intent)
    if intent.touch is not None:
        params += _touch_params(intent, intent.touch)
    guard = None if claim is None else session.guard
    params += guard or ()
    shape = TasksShape(
        fence, line, bool(intent.tasks), bool(intent.spills), intent.touch is not None, guard is not None
    )
    return Call(tasks_text(shape), params)


def _spill_params(intent: Intent) -> tuple[Any, ...]:
    hashes = sorted(intent.spills)  # in one order everywhere, so that two transactions never wait for each other
    return (intent.cursor.place.thread, hashes, [intent.spills[hash] for hash in hashes])


def _touch_params(intent: Intent, touch: Touch) -> tuple[Any, ...]:
    title = touch.title if intent.cursor.place.vault.keys is None else None
    return (intent.cursor.place.thread, touch.at, title, None if title is None else title.casefold())


# The texts


@lru_cache(maxsize=128)
def step_text(shape: StepShape) -> str:
    """The statement that stores one step."""
    number = (f"${index}" for index in itertools.count(13))
    parts: list[str] = []
    held, is_held = (" from held", " and exists (select 1 from held)") if shape.guards else ("", "")
    match shape.fence:
        case "same":
            branch, seq, epoch = (next(number) for _ in range(3))
            parts.append(f"moved as ({_MOVE} where {_AT} and {_is_at(branch, seq, epoch)} returning key_seq)")
        case "claim":
            branch, seq, epoch, new_epoch, owner = (next(number) for _ in range(5))
            parts.append(
                f"moved as ({_MOVE}, epoch = {new_epoch}, owner = {owner}"
                f" where {_AT} and {_is_at(branch, seq, epoch)}{is_held} returning key_seq)"
            )
        case "new":
            epoch, owner, thread = (next(number) for _ in range(3))
            inserted = _insert_moved(epoch, owner, thread, _ROOT_NS, source=held)
            parts.append(f"moved as ({inserted} returning key_seq)")
        case "child":
            line, epoch, branch, seq = (next(number) for _ in range(4))
            parts.append(_root(line, epoch))
            parts.append(
                f"moved as ({_MOVE} where {_AT} and {_is_at(branch, seq, '0')} and exists (select 1 from root)"
                " returning key_seq)"
            )
        case "child_new":
            line, epoch, thread, ns = (next(number) for _ in range(4))
            parts.append(_root(line, epoch))
            parts.append(f"moved as ({_insert_moved('0', 'null', thread, ns, source=' from root')} returning key_seq)")
    parts.append(f"added as ({_ADD})")
    if shape.fence not in ("new", "child_new"):
        parts.append(f"spent as ({_SPENT})")
    if shape.forks:
        parts.append(f"forked as ({_fork(next(number), next(number))})")
    if shape.spills:
        parts.append(f"spilled as ({_spill(next(number), next(number), next(number), 'moved')})")
    if shape.touches:
        parts.append(f"touched as ({_touch(*(next(number) for _ in range(4)), decides='moved')})")
    if shape.guards:
        parts.insert(0, _guard(*(next(number) for _ in range(3))))
    return "with " + ",\n".join(parts) + "\nselect 1 from moved"


@lru_cache(maxsize=64)
def tasks_text(shape: TasksShape) -> str:
    """The statement that saves writes, takes a thread, or both."""
    number = (f"${index}" for index in itertools.count(4))
    parts: list[str] = []
    held, is_held = (" from held", " and exists (select 1 from held)") if shape.guards else ("", "")
    match shape.fence:
        case "same":
            parts.append("fence as (select 1 from clew_head where tenant = $1 and line = $2 and epoch = $3)")
        case "claim":
            owner, branch, seq, epoch, top = (next(number) for _ in range(5))
            parts.append(
                f"fence as (update clew_head set epoch = $3::bigint, owner = {owner}, top_branch = {top}"
                f" where {_AT} and {_is_at(branch, seq, epoch)}{is_held} returning 1)"
            )
        case "new":
            owner, thread = next(number), next(number)
            parts.append(f"fence as ({_insert_bare('$2', '$3', owner, thread, _ROOT_NS, source=held)} returning 1)")
    line = "$2::bigint"
    decides = "fence"
    if shape.line == "known":
        line = f"{next(number)}::bigint"
    elif shape.line == "made":
        made, thread, ns = (next(number) for _ in range(3))
        line, decides = f"{made}::bigint", "made"
        parts.append(f"made as ({_insert_bare(made, '0', 'null', thread, ns, source=' from fence')} returning 1)")
    if shape.tasks:
        place = f"{next(number)}::integer, {next(number)}::integer"
        parts.append(f"saved as ({_save(line, place, next(number), next(number), decides)})")
    if shape.spills:
        parts.append(f"spilled as ({_spill(next(number), next(number), next(number), decides)})")
    if shape.touches:
        parts.append(f"touched as ({_touch(*(next(number) for _ in range(4)), decides='fence')})")
    if shape.guards:
        parts.insert(0, _guard(*(next(number) for _ in range(3))))
    return "with " + ",\n".join(parts) + f"\nselect 1 from {decides}"


_ROOT_NS = "''"
_AT = "tenant = $1 and line = $2"
_MOVE = (
    "update clew_head set branch = $3::integer, seq = $4::integer, key_seq = coalesce($5::integer, key_seq),"
    " top_branch = greatest(top_branch, $3::integer), since = $6::bigint, last_id = $7::bytea,"
    " root_branch = $8::integer, root_seq = $9::integer, updated_at = $11::bigint"
)
_ADD = (
    "insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id,"
    " created_at, body) select $1::text, $2::bigint, $3::integer, $4::integer, moved.key_seq, $7::bytea, $8::integer,"
    " $9::integer, $10::bytea, $11::bigint, $12::bytea from moved"
)
_SPENT = (
    "delete from clew_pending where tenant = $1 and line = $2 and branch = $3::integer and seq = $4::integer - 1"
    " and exists (select 1 from moved)"
)


def _is_at(branch: str, seq: str, epoch: str) -> str:
    return f"branch = {branch} and seq = {seq} and epoch = {epoch}"


def _guard(run_id: str, owner: str, epoch: str) -> str:
    return (
        f"held as (select 1 from clew_run where tenant = $1 and run_id = {run_id} and owner = {owner}"
        f" and epoch = {epoch}::bigint and status = 'running')"
    )


def _root(line: str, epoch: str) -> str:
    return f"root as (select 1 from clew_head where tenant = $1 and line = {line} and epoch = {epoch} for share)"


def _insert_moved(epoch: str, owner: str, thread: str, ns: str, *, source: str) -> str:
    return (
        "insert into clew_head (tenant, line, thread, ns, epoch, owner, branch, seq, key_seq, top_branch, since,"
        f" last_id, root_branch, root_seq, updated_at) select $1::text, $2::bigint, {thread}::text, {ns}::text,"
        f" {epoch}::bigint, {owner}::bytea, $3::integer, $4::integer, $5::integer, $3::integer, $6::bigint, $7::bytea,"
        f" $8::integer, $9::integer, $11::bigint{source} on conflict (tenant, thread, ns) do nothing"
    )


def _insert_bare(line: str, epoch: str, owner: str, thread: str, ns: str, *, source: str) -> str:
    return (
        "insert into clew_head (tenant, line, thread, ns, epoch, owner, branch, seq, key_seq, top_branch, since,"
        f" updated_at) select $1::text, {line}::bigint, {thread}::text, {ns}::text, {epoch}::bigint, {owner}::bytea,"
        f" 0, 0, 0, 0, 0, 0{source} on conflict (tenant, thread, ns) do nothing"
    )


def _fork(branch: str, seq: str) -> str:
    return (
        "insert into clew_fork (tenant, line, branch, parent_branch, parent_seq) select $1::text, $2::bigint,"
        f" $3::integer, {branch}::integer, {seq}::integer from moved on conflict (tenant, line, branch)"
        " do update set parent_branch = excluded.parent_branch, parent_seq = excluded.parent_seq"
    )


def _save(line: str, place: str, ids: str, bodies: str, decides: str) -> str:
    # A row of a later epoch belongs to a run that took the thread while this statement waited: it stays. (A copied
    # thread begins its epochs anew, so the rows that came along have none.)
    return (
        "insert into clew_pending as kept (tenant, line, branch, seq, task_id, epoch, body) select $1::text,"
        f" {line}, {place}, task.id, $3::bigint, task.body"
        f" from unnest({ids}::bytea[], {bodies}::bytea[]) as task (id, body) where exists (select 1 from {decides})"
        " on conflict (tenant, line, branch, seq, task_id) do update set epoch = excluded.epoch, body = excluded.body"
        " where kept.epoch <= excluded.epoch"
    )


def _spill(thread: str, hashes: str, bodies: str, decides: str) -> str:
    return (
        f"insert into clew_spill (tenant, thread, hash, body) select $1::text, {thread}::text, leaf.hash, leaf.body"
        f" from unnest({hashes}::bytea[], {bodies}::bytea[]) as leaf (hash, body)"
        f" where exists (select 1 from {decides}) on conflict (tenant, thread, hash) do nothing"
    )


def _touch(thread: str, at: str, title: str, title_key: str, *, decides: str) -> str:
    return (
        f"update clew_thread set last_message_at = {at}::bigint, active_at = {at}::bigint, updated_at = {at}::bigint,"
        f" title = coalesce(title, {title}::text), title_key = coalesce(title_key, {title_key}::text)"
        f" where tenant = $1 and thread = {thread} and exists (select 1 from {decides})"
    )
