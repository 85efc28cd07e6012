"""Who can write to the database but has no key can destroy, and can change or move nothing without being noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import CorruptRecordError, StorageError
from clew.protocols import TaskWrites
from clew.serde.compress import encrypted_body, seal_encrypted
from clew.serde.keys import KeyRing
from tests.encryption import story
from tests.encryption.backends import (
    KEY,
    OTHER_KEY,
    Backend,
    line_of,
    pending_of,
    query,
    replace_step,
    serde,
    set_pending,
    set_spill,
    set_step,
    spills_of,
    steps_of,
)
from tests.storage.kit import TASK, Run, history, load

SECOND_TASK = "00000000-0000-4000-8000-000000000002"


def told(saver: Any, *threads: str) -> None:
    """Threads of three steps with a fork, a namespace below, a large leaf, and two tasks' writes that wait."""
    for thread in threads:
        run = Run(saver, thread)
        ids: list[str] = []
        for turn in range(3):
            run.state |= {"n": f"{thread} {turn}", "leaf": story.leaf(thread)} if turn == 0 else {"n": turn}
            ids.append(run.commit(claim=turn == 0))
        child = Run(saver, thread, "child", session=run.session)
        for turn in range(3):
            child.state["n"] = turn
            child.commit()
        fork = Run(saver, thread, at=ids[1])
        fork.state["n"] = "forked"
        fork.commit(claim=True)
        waits = [TaskWrites(id, [("n", id)], path=id, name="node") for id in (TASK, SECOND_TASK)]
        saver.run(fork.cursor.save_writes(waits))


def step_of_another_thread(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[2], steps_of(saver, "b")[2][8])


def step_of_another_namespace(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[2], steps_of(saver, "a", "child")[2][8])


def step_of_another_seq(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[2], steps_of(saver, "a")[1][8])


def step_of_another_branch(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[0], steps_of(saver, "a", branch=1)[0][8])


def step_under_another_id(saver: Any) -> None:
    row = steps_of(saver, "a")[2]
    replace_step(saver, "a", row, checkpoint_id=row[3][:-1] + bytes([row[3][-1] ^ 1]))


def step_of_another_time(saver: Any) -> None:
    row = steps_of(saver, "a")[2]
    replace_step(saver, "a", row, created_at=row[7] + 1)


def step_of_another_run(saver: Any) -> None:
    replace_step(saver, "a", steps_of(saver, "a")[2], run_id=bytes(16))


def step_under_another_root(saver: Any) -> None:
    replace_step(saver, "a", steps_of(saver, "a")[2], root_branch=0, root_seq=1)


def difference_as_full_value(saver: Any) -> None:
    replace_step(saver, "a", steps_of(saver, "a")[2], key_seq=3)


def writes_as_a_step(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[2], pending_of(saver, "a")[0][4])


def step_that_is_cut(saver: Any) -> None:
    row = steps_of(saver, "a")[2]
    body = encrypted_body(row[8])
    assert body is not None
    set_step(saver, "a", row, seal_encrypted(body[:-1]))


def step_without_a_ciphertext(saver: Any) -> None:
    row = steps_of(saver, "a")[2]
    set_step(saver, "a", row, seal_encrypted(b"\x03old"))


def step_that_is_empty(saver: Any) -> None:
    set_step(saver, "a", steps_of(saver, "a")[2], b"")


def writes_of_another_thread(saver: Any) -> None:
    set_pending(saver, "a", pending_of(saver, "a")[0], pending_of(saver, "b")[0][4])


def writes_of_another_task(saver: Any) -> None:
    mine, other = pending_of(saver, "a")
    set_pending(saver, "a", mine, other[4])


def writes_behind_another_step(saver: Any) -> None:
    row = pending_of(saver, "a")[0]
    set_pending(saver, "a", row, row[4], branch=0, seq=2)


def step_as_writes(saver: Any) -> None:
    set_pending(saver, "a", pending_of(saver, "a")[0], steps_of(saver, "a")[2][8])


def leaf_of_another_thread(saver: Any) -> None:
    [name], [body] = spills_of(saver, "a"), spills_of(saver, "b").values()
    set_spill(saver, "a", name, body)


def leaf_under_another_name(saver: Any) -> None:
    run = Run(saver, "a")
    run.state["leaf"] = story.leaf("another")
    run.commit(claim=True)
    (first, _), (_, other) = spills_of(saver, "a").items()
    set_spill(saver, "a", first, other)


CHANGES: list[Callable[[Any], None]] = [
    step_of_another_thread,
    step_of_another_namespace,
    step_of_another_seq,
    step_of_another_branch,
    step_under_another_id,
    step_of_another_time,
    step_of_another_run,
    step_under_another_root,
    difference_as_full_value,
    writes_as_a_step,
    step_that_is_cut,
    step_without_a_ciphertext,
    step_that_is_empty,
    writes_of_another_thread,
    writes_of_another_task,
    writes_behind_another_step,
    step_as_writes,
    leaf_of_another_thread,
    leaf_under_another_name,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_noticed_by_readers_and_by_the_doctor(backend: Backend, change: Callable[[Any], None]) -> None:
    saver = backend.saver(serde())
    told(saver, "a", "b")
    assert saver.verify().is_intact

    change(saver)

    reader = backend.saver(serde())
    if change is not step_that_is_empty:
        with pytest.raises(CorruptRecordError):
            history(reader, "a")
    with pytest.raises(StorageError):
        history(reader, "a")
    report = reader.verify("a")
    assert report.problems, "the doctor says so"
    assert {problem.thread_id for problem in report.problems} == {"a"}
    assert reader.verify("b").is_intact
    assert len(history(reader, "b")) == 4


def test_a_thread_of_another_tenant_does_not_authenticate(backend: Backend) -> None:
    saver, other = backend.saver(serde(), tenant="one"), backend.saver(serde(), tenant="two")
    for tenant in (saver, other):
        run = Run(tenant, "t")
        run.state["n"] = tenant.tenant
        run.commit(claim=True)
    [mine] = query(saver, "step_chain", "one", line_of(saver, "t", tenant="one"), 0, 1, 1)
    line = line_of(saver, "t", tenant="two")
    query(saver, "step_rewrite", 1, mine[8], "two", line, 0, 1)

    with pytest.raises(CorruptRecordError, match="does not authenticate with key 'old'"):
        load(backend.saver(serde(), tenant="two"), "t")
    assert load(backend.saver(serde(), tenant="one"), "t").values == {"n": "one"}


def test_another_key_of_the_same_id_does_not_pass(backend: Backend) -> None:
    told(backend.saver(serde()), "a")
    wrong = type(serde())({"old": OTHER_KEY})

    with pytest.raises(CorruptRecordError, match="or the key is not the one it was encrypted with"):
        load(backend.saver(wrong), "a")


def test_a_thread_that_was_tampered_with_can_still_be_deleted(backend: Backend) -> None:
    saver = backend.saver(serde())
    told(saver, "a", "b")
    step_of_another_thread(saver)

    saver.delete_thread("a")

    assert [one.thread_id for one in saver.threads()] == ["b"]
    assert spills_of(saver, "a") == {}


RING = KeyRing({"old": KEY})
PLACE = ("step", "tenant", "thread", "ns", 0, 1)
ENVELOPE = RING.seal(b"a record", PLACE)


@given(st.integers(0, len(ENVELOPE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(position: int, change: int) -> None:
    changed = bytearray(ENVELOPE)
    changed[position] ^= change

    with pytest.raises(StorageError):
        RING.open(bytes(changed), PLACE)


@given(st.integers(0, len(ENVELOPE) - 10), st.integers(1, 255))
def test_no_byte_can_be_changed_by_who_mends_the_checksum(position: int, change: int) -> None:
    body = bytearray(encrypted_body(ENVELOPE) or b"")
    body[position] ^= change

    with pytest.raises(StorageError):
        RING.open(seal_encrypted(bytes(body)), PLACE)


PLACES = st.tuples(
    st.sampled_from(["step", "task", "spill"]),
    *[st.text(max_size=4)] * 3,
    *[st.none() | st.integers(0, 3) | st.binary(max_size=3)] * 3,
)


@given(PLACES, PLACES, st.binary(max_size=50))
def test_a_record_opens_in_its_place_only(place: Any, other: Any, record: bytes) -> None:
    envelope = RING.seal(record, place)

    assert RING.open(envelope, place) == record
    if place != other:
        with pytest.raises(CorruptRecordError):
            RING.open(envelope, other)
