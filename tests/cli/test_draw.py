"""`clew graph`, and what happens without the extra."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Clew


def test_graph_is_drawn_as_mermaid_text(clew: Clew, app: str) -> None:
    result = clew("graph", f"{app}:builder")

    assert result.status == 0
    assert "__start__ --> talk;" in result.out


def test_graph_is_drawn_as_svg_into_a_file(clew: Clew, app: str, tmp_path: Path) -> None:
    result = clew("graph", f"{app}:builder", "--format", "svg", "--output", "talk.svg")

    assert result.out == "written    talk.svg\n"
    assert ElementTree.parse(tmp_path / "talk.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_graph_is_drawn_as_ascii(clew: Clew, app: str) -> None:
    result = clew("graph", f"{app}:builder", "--format", "ascii")

    assert "talk" in result.out


def test_picture_that_cannot_be_written_is_an_error(clew: Clew, app: str) -> None:
    result = clew("graph", f"{app}:builder", "--output", "none/talk.mmd")

    assert result.status == 1
    assert result.err == "error: the picture cannot be written to 'none/talk.mmd': No such file or directory\n"


def test_graph_that_is_not_there_is_an_error(clew: Clew, app: str) -> None:
    result = clew("graph", f"{app}:missing")

    assert result.status == 1
    assert result.err.startswith(f"error: module '{app}' has no 'missing'\n")


def test_missing_extra_names_the_install_command(clew: Clew, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("clew.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)

    result = clew("threads")

    assert result.status == 1
    assert "the command line needs a package that is not installed" in result.err
    assert "hint: install it with: pip install 'clew[cli]'" in result.err
