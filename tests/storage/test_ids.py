"""Ids that users see."""

from __future__ import annotations

import time
import unicodedata
import uuid
from enum import Enum
from typing import Any

import pytest

from clew.errors import InvalidThreadIdError
from clew.ids import checkpoint_id, id_bytes, id_micros, id_text, new_checkpoint_id, thread_id
from tests.storage.kit import Run, load


def test_a_checkpoint_id_is_a_uuid_of_version_6_that_carries_its_time() -> None:
    before = time.time_ns() // 1000
    id = uuid.UUID(checkpoint_id())

    assert (id.version, id.variant) == (6, uuid.RFC_4122)
    assert before <= id_micros(id.bytes) <= time.time_ns() // 1000


def test_ids_sort_in_the_order_they_were_made_even_when_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10**18, 10**18, 10**18 - 10**9, 10**18 - 5, 10**18 + 10**9])
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ids: list[str] = []
    for _ in range(5):
        ids.append(checkpoint_id(ids[-1] if ids else None))

    assert sorted(ids) == ids
    assert len(set(ids)) == 5
    assert sorted(map(id_bytes, ids)) == [id_bytes(id) for id in ids]


@pytest.mark.parametrize(
    "text", ["1f1e569b-8b78-60a3-93a1-0fe941efc8d6", "1", "", "a/b", "é", "1F1E569B-8b78-60a3-93a1-0fe941efc8d6"]
)
def test_ids_chosen_by_others_keep_their_text(text: str) -> None:
    assert id_text(id_bytes(text)) == text


def test_an_id_can_follow_one_that_others_chose() -> None:
    for chosen in ("zzz", str(uuid.uuid4()), "ffffffff-ffff-6fff-8fff-ffffffffffff"):
        new = new_checkpoint_id(id_bytes(chosen))
        assert len(new) == 16


class Name(str, Enum):  # noqa: UP042 - whose str() is not its text
    FIRST = "first"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("t", "t"),
        (7, "7"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("../etc/passwd", "../etc/passwd"),
        ("x" * 255, "x" * 255),
        (Name.FIRST, "first"),
    ],
)
def test_a_thread_id_is_text_or_becomes_it(value: Any, text: str) -> None:
    assert thread_id(value) == text
    assert type(thread_id(value)) is str


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "thread_id is empty"),
        ("x" * 256, "thread_id has 256 characters, over the limit of 255"),
        ("a\0b", "thread_id holds a NUL character"),
        ("a\ud800b", r"thread_id 'a\\ud800b' holds a lone surrogate"),
        (None, "thread_id is of type 'NoneType', not text"),
        (True, "thread_id is of type 'bool', not text"),
        (1.5, "thread_id is of type 'float', not text"),
    ],
)
def test_what_cannot_be_a_thread_id_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidThreadIdError, match=message) as caught:
        thread_id(value)

    assert caught.value.hint


def test_threads_with_ids_that_look_alike_are_distinct(saver: Any) -> None:
    alike = ["é", unicodedata.normalize("NFD", "é"), "T", "t", "t ", "a/b", "a", "a/../a", "%", "_"]
    for name in alike:
        run = Run(saver, name)
        run.state["name"] = name
        run.commit()

    for name in alike:
        found = load(saver, name)
        assert found is not None
        assert found.values == {"name": name}
    assert sorted(summary.thread_id for summary in saver.threads()) == sorted(alike)
