"""JSON in, and any state's values out as JSON."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from clew.cli._problem import CommandError
from clew.cli._values import plain, read_answer, read_json


@dataclass
class Point:
    x: int
    tags: set[str]


def test_input_is_json_or_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"from": "file"}')
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"from": "stdin"}'))

    assert read_json('{"from": "text"}', "--input") == {"from": "text"}
    assert read_json(f"@{file}", "--input") == {"from": "file"}
    assert read_json("-", "--input") == {"from": "stdin"}


def test_bad_json_is_refused_with_its_place() -> None:
    with pytest.raises(CommandError, match=r"^--input is not JSON: .* at line 2, column 1\n"):
        read_json("{\n", "--input")


def test_missing_input_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"--input cannot read '.*none\.json': "):
        read_json(f"@{tmp_path / 'none.json'}", "--input")


def test_answer_that_is_not_json_is_taken_as_text() -> None:
    assert [read_answer(text) for text in ("yes", "true", '{"a": 1}', '"42"')] == ["yes", True, {"a": 1}, "42"]


def test_values_without_a_json_form_are_shown_by_their_fields_or_their_repr() -> None:
    shown = plain({1: Point(2, {"a"}), "raw": b"\x00", "pair": (1, None), "type": int})

    assert shown == {
        "1": {"x": 2, "tags": ["a"]},
        "raw": {"base64": "AA=="},
        "pair": [1, None],
        "type": "<class 'int'>",
    }


def test_message_is_shown_with_its_kind_and_what_it_says() -> None:
    assert plain(HumanMessage("hello", id="1")) == {"type": "human", "content": "hello", "id": "1"}
