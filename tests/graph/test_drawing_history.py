"""A thread's history as a tree."""

from __future__ import annotations

from textwrap import dedent
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from clew.graph._drawing.history import HistoryRow, history_svg, history_tree

ROWS = [
    HistoryRow("c1", None, -1, "input", ("plan",), "2026-01-02T10:00:00.123+00:00"),
    HistoryRow("c2", "c1", 0, "loop", ("search", "read"), "2026-01-02T10:00:01+00:00", "wrote <plan>"),
    HistoryRow("c3", "c2", 1, "loop", (), "2026-01-02T10:00:02+00:00"),
    HistoryRow("f1", "c1", 0, "update", ("write",), "2026-01-02T10:05:00+00:00", "edited"),
    HistoryRow("g1", "f1", 1, "fork", ("write",), "2026-01-02T10:06:00+00:00"),
    HistoryRow("f2", "f1", 1, "loop", (), "2026-01-02T10:07:00+00:00"),
][::-1]


def test_forks_stand_beside_the_way_to_the_newest() -> None:
    assert history_tree(ROWS) == dedent(
        """\
        ●    -1  input   → plan                        2026-01-02 10:00:00  c1
        ├─●   0  loop    → search, read  wrote <plan>  2026-01-02 10:00:01  c2
        │ ●   1  loop    (end)                         2026-01-02 10:00:02  c3
        ●     0  update  → write         edited        2026-01-02 10:05:00  f1
        ├─●   1  fork    → write                       2026-01-02 10:06:00  g1
        ◉     1  loop    (end)                         2026-01-02 10:07:00  f2  (newest)
        """
    )


def test_tree_can_do_without_unicode() -> None:
    text = history_tree(ROWS, ascii_only=True)

    assert text.isascii()
    assert [line.split()[0] for line in text.splitlines()] == ["*", "|-*", "|", "*", "|-*", "@"]


def test_plain_tuples_and_pruned_parents_are_fine() -> None:
    text = history_tree([("b2", "b1", 5, "loop", ()), ("b1", "gone", 4, "loop", ("x",)), ("a", None, None, "input")])  # type: ignore[list-item]

    assert text.splitlines() == [
        "●     input  (end)  a",
        "●  4  loop   → x    b1",
        "◉  5  loop   (end)  b2  (newest)",
    ]


def test_no_history_is_no_text() -> None:
    assert history_tree([]) == ""
    assert ElementTree.fromstring(history_svg([])).tag.endswith("svg")


def test_picture_has_a_dot_per_checkpoint_and_marks_the_newest() -> None:
    root = ElementTree.fromstring(history_svg(ROWS))
    groups = list(root.iter("{http://www.w3.org/2000/svg}g"))

    assert [group.get("class") for group in groups] == ["checkpoint"] * 5 + ["newest"]
    assert len([part for part in root.iter() if part.get("class") == "line"]) == 5
    assert "wrote <plan>" in "".join(root.itertext())


@given(parents=st.lists(st.integers(0, 30), max_size=30))
def test_every_checkpoint_of_any_history_is_shown_once_after_its_parent(parents: list[int]) -> None:
    rows = [HistoryRow("c0", None, 0, "input")]
    for number, parent in enumerate(parents, 1):
        rows.append(HistoryRow(f"c{number}", f"c{parent % number}", number, "loop"))
    newest_first = rows[::-1]

    lines = history_tree(newest_first).splitlines()
    shown = [next(word for word in line.split() if word[0] == "c" and word[1:].isdigit()) for line in lines]

    assert sorted(shown) == sorted(row.checkpoint_id for row in rows)
    assert all(row.parent_id is None or shown.index(row.parent_id) < shown.index(row.checkpoint_id) for row in rows)
    assert lines[-1].startswith("◉")
    assert lines[-1].endswith("(newest)")
    ElementTree.fromstring(history_svg(newest_first))


def test_long_histories_are_fine() -> None:
    rows = [HistoryRow(f"c{number}", f"c{number - 1}" if number else None, number, "loop") for number in range(5000)]

    assert len(history_tree(rows[::-1]).splitlines()) == 5000
