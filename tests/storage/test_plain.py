"""Small plain steps: stored as they are, and read back as if they had been compared and encoded one by one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.errors import ThreadConflictError
from clew.protocols import Step
from clew.serde import Codec
from clew.storage import encode
from clew.storage.plain import pack_plain
from clew.storage.records import unpack_step
from clew.storage.state import EMPTY
from tests.storage.kit import Run, history, load, write

PLAIN: tuple[Any, ...] = (
    None, True, 7, -1.5, "text", "\u00e9", [], [1, 2], ["a", {"b": [None]}], {}, {"k": [1], "l": {"m": "n"}},
)  # fmt: skip


def step(value: Any) -> Step:
    return Step(
        {"source": "loop", "step": 1, "parents": {}},
        {"x": value},
        {"x": 2, "other": 1},
        {"node": {"x": 1}},
        ["x", "gone"],
        ["node"],
        ("x",),
        [write(value, channel="x")],
    )


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_a_plain_step_reads_as_the_record_with_full_values(value: Any) -> None:
    body = pack_plain(step(value))
    assert body is not None
    found = unpack_step(body)
    _, record = encode.encode_step(EMPTY, step(value), Codec(), in_full=True)

    assert (found.deltas, found.metadata, found.writes) == (record.deltas, record.metadata, record.writes)
    assert (found.versions, found.seen, found.gone) == ({"x": 2}, {"node": {"x": 1}}, ["gone"])
    assert found.updated == ["x"]


@pytest.mark.parametrize(
    "value",
    [b"bytes", bytearray(b"b"), (1,), {1: 2}, 2**70, "\ud800", {"set"}, "long" * 200, "\u0104"],
    ids=["bytes", "buffer", "tuple", "number key", "big int", "surrogate", "set", "long", "text like a marker"],
)
def test_what_needs_care_is_no_plain_step(value: Any) -> None:
    assert pack_plain(step(value)) is None


@pytest.mark.parametrize("seed", range(30))
def test_states_from_the_cache_are_those_of_the_rows(seed: int) -> None:
    generator = random.Random(seed)
    saver = InMemorySaver(keyframe_factor=generator.choice([0.05, 4.0]))
    run = Run(saver, "t")
    run.commit(claim=True)
    for number in range(60):
        name = generator.choice("abcd")
        match generator.randrange(5):
            case 0:
                run.state.pop(name, None)
            case 1:
                run.state[name] = (number,)  # no plain data
            case 2 if isinstance(run.state.get("a"), list):
                run.state["a"].append(number)  # in place
            case _:
                run.state[name] = generator.choice([number, [number, {"n": number}], "x" * generator.randrange(500)])
        run.commit()
        if generator.random() < 0.2:
            cached = load(saver, "t")
            saver.heads.drop("", "t")
            read = load(saver, "t")
            assert cached is not None
            assert cached == read
            assert cached.values == run.state
        if generator.random() < 0.1:
            run = Run(saver, "t")
            run.commit(claim=True)
    assert len({saved.checkpoint_id for saved in history(saver, "t")}) == len(history(saver, "t"))
    assert not saver.verify("t").problems


def test_a_run_that_lost_its_thread_appends_nothing() -> None:
    saver = InMemorySaver()
    first = Run(saver, "t")
    first.state["x"] = 1
    first.commit(claim=True)
    second = Run(saver, "t")
    second.commit(claim=True)
    with pytest.raises(ThreadConflictError):
        first.commit()
    assert len(history(saver, "t")) == 2
