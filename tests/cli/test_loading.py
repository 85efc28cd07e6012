"""Objects by file and name: whose module they are in, and what is said about those that are not there."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from clew._loading import load_object
from clew.errors import LoadError
from tests.modules import own_modules

__all__ = ["own_modules"]

pytestmark = pytest.mark.usefixtures("own_modules")


@pytest.fixture
def name() -> str:
    """A module's name that nobody has."""
    return f"m_{uuid.uuid4().hex}"


def test_file_is_the_module_that_an_import_gives(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("class Note: ...\n")
    (tmp_path / f"{name}_user.py").write_text(f"from {name} import Note\n")

    assert load_object(f"./{name}.py:Note", tmp_path) is load_object(f"{name}_user.py:Note", tmp_path)


def test_file_in_a_package_may_import_from_it(tmp_path: Path, name: str) -> None:
    package = tmp_path / "src" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .graph import chat\n")
    (package / "tools.py").write_text("word = 'clew'\n")
    (package / "graph.py").write_text("from .tools import word\nchat = word\n")

    assert load_object(f"./src/{name}/graph.py:chat", tmp_path) == "clew"
    assert sys.modules[f"{name}.graph"].chat == "clew"


def test_two_files_of_one_name_are_two_modules(tmp_path: Path, name: str) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(f"where = {folder!r}\n")

    assert load_object(f"first/{name}.py:where", tmp_path) == "first"
    assert load_object(f"second/{name}.py:where", tmp_path) == "second"
    assert load_object(f"second/{name}.py:where", tmp_path) == "second"
    assert sys.modules[f"second_{name}"].where == "second"


def test_file_may_have_a_name_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("where = 'mine'\n")

    assert load_object("queue.py:where", tmp_path) == "mine"
    assert not hasattr(sys.modules.get("queue"), "where")


def test_name_may_be_inside_something(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("class Graphs:\n    chat = 1\n")

    assert load_object(f"{name}.py:Graphs.chat", tmp_path) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("chat", "'chat' is not MODULE:NAME"),
        ("chat.py:", "'chat.py:' is not MODULE:NAME"),
        ("./no.py:graph", "there is no file "),
        ("no_such_module_at_all:graph", "there is no module 'no_such_module_at_all'"),
        ("json:graph", "module 'json' has no 'graph'"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(LoadError) as refused:
        load_object(target, tmp_path)

    assert str(refused.value).startswith(message)


def test_error_of_the_module_itself_says_what_was_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise ValueError('no key')\n")

    with pytest.raises(ValueError, match="no key") as failed:
        load_object(f"{name}.py:graph", tmp_path)

    assert f"while '{name}.py:graph' was loaded" in failed.value.__notes__
