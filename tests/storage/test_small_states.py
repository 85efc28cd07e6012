"""Small states of every shape, committed over and over: what is read back is exact, cached or not."""

from __future__ import annotations

import datetime as dt
import random
from collections import OrderedDict, defaultdict, deque
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.protocols import HistoryQuery, TaskWrites
from tests.serde.exact import is_same
from tests.storage.kit import TASK, Run


class Color(str, Enum):  # noqa: UP042 - the kind that codecs take for text
    RED = "red"


VALUES: list[Any] = [
    None,
    True,
    1,
    1.0,
    -0.0,
    2**70,
    -(2**63),
    2**64 - 1,
    "",
    "a\0b",
    "\ud800",
    "é" * 40,
    b"",
    b"\xff" * 30,
    bytearray(b"x"),
    (),
    (1, (2, [3])),
    [],
    [1, 2.5, None],
    [[1], {"a": (1,)}],
    {},
    {"b": 1, "a": 2},
    {1: "one", (2,): "two"},
    {"": {"\ud800": 1}},
    {3, 1},
    frozenset({2}),
    deque([1, 2], maxlen=2),
    OrderedDict(b=1, a=2),
    defaultdict(int, a=1),
    Color.RED,
    Decimal("1.10"),
    UUID(int=9),
    PurePosixPath("/a"),
    dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
    dt.timedelta(microseconds=1),
    float("inf"),
]


def opened(saver: Any) -> Any:
    return saver.session("t", types=frozenset({Color}))


def play(saver: Any, rnd: random.Random) -> None:
    run = Run(saver, "t", session=opened(saver))
    expected: list[tuple[dict[str, Any], list[Any], Any]] = []
    for turn in range(rnd.randrange(1, 12)):
        for name in rnd.sample("abcd", rnd.randrange(3)):
            run.state[name] = rnd.choice(VALUES)
            if rnd.random() < 0.2:
                del run.state[name]
        written = [["a", rnd.choice(VALUES)] for _ in range(rnd.randrange(3))]
        extra = rnd.choice(VALUES)
        run.commit(writes=[TaskWrites(TASK, [(channel, value) for channel, value in written])], extra=extra, turn=turn)
        expected.append((dict(run.state), written, extra))
        if rnd.random() < 0.3:
            saver.heads.drop("", "t")
        if rnd.random() < 0.3:
            run = Run(saver, "t", session=opened(saver))
            check_values(run.loaded, expected[-1])
    saver.heads.drop("", "t")
    check_values(Run(saver, "t", session=opened(saver)).loaded, expected[-1])
    listed = saver.run(opened(saver).cursor().history(HistoryQuery()))[::-1]
    for saved, step in zip(listed, expected, strict=True):
        check_values(saved, step)
    for saved, (_, written, _) in zip(listed, expected[1:], strict=False):
        assert is_same([list(write) for task in saved.pending for write in task.writes], written)
    assert saver.verify("t").problems == []


def check_values(saved: Any, step: tuple[dict[str, Any], list[Any], Any]) -> None:
    values, _, extra = step
    assert sorted(saved.values) == sorted(values)
    for name, value in values.items():
        assert is_same(saved.values[name], value), name
    assert is_same(saved.metadata["extra"], extra)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_every_small_state_reads_back_exactly(seed: int) -> None:
    play(InMemorySaver(), random.Random(seed))
    with SqliteSaver.from_conn_string(":memory:", keyframe_chain=3) as saver:
        play(saver, random.Random(seed))
