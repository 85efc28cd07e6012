"""The documentation is true: its programs run and print what it says they print, its links lead somewhere.

In each page the `python` blocks run in order, as one program, in an empty folder. A `text` block right after one holds
what it prints, where "..." stands for anything. A program whose first line is `# name.py` is also written to that file,
and a `json` block after "this `name.json`:".
In a `console` block, lines that start with `$ clew` are run by the command line, and what follows is their output.
A page that reads `DATABASE_URL` from its environment gets an empty PostgreSQL database there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clew import errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:\[[^\]]*\]\(|src=\")([^)\"\s]+)[)\"]")


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str
    follows: str  # what stands between this block and the one before


def blocks(page: Path) -> Iterator[Block]:
    text, end = page.read_text(encoding="utf-8"), 0
    for found in BLOCK.finditer(text):
        yield Block(found[1], found[2], text[end : found.start()])
        end = found.end()


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def with_language(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(block.language in languages for block in blocks(page))]


@pytest.mark.parametrize("page", with_language("python", "console"), ids=name)
def test_programs_print_what_the_page_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    # A process of its own: pages define modules and classes, and may leave threads behind.
    program = [sys.executable, "-W", "error", __file__, str(page)]
    environment = dict(os.environ)
    if "DATABASE_URL" in page.read_text(encoding="utf-8"):
        environment["DATABASE_URL"] = request.getfixturevalue("database")
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=100, env=environment)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_to_files(page: Path) -> None:
    without_code = BLOCK.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(without_code) if "://" not in target]

    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_every_page_of_the_documentation_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target
    }

    assert [name(page) for page in ROOT.glob("docs/**/*.md") if page.resolve() not in linked] == []


def test_every_error_is_listed_with_what_to_do() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ClewError)]
    final = [kind for kind in kinds if not kind.__subclasses__() and not kind.__name__.startswith("_")]

    assert len(final) > 20
    assert [kind.__name__ for kind in final if f"`{kind.__name__}`" not in page] == []


def test_program_of_the_readme_remembers(tmp_path: Path) -> None:
    program = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    command = [sys.executable, "-c", program]
    runs = [subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.strip() for _ in range(2)]

    assert f"Run the program again, and it goes on where it was: `{runs[1]}`." in (ROOT / "README.md").read_text()
    assert runs[0] != runs[1]


def test_picture_of_the_readme_is_what_the_project_draws() -> None:
    command = [sys.executable, "-m", "clew.cli", "graph", "examples.report.graph:graph", "--format", "svg"]
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert (ROOT / "docs" / "images" / "report.svg").read_text(encoding="utf-8").strip() == drawn.strip()


def run_page(page: Path) -> None:
    """Run the blocks of `page` in this process; a difference ends it with a message."""
    sys.path.insert(0, str(Path.cwd()))  # where a page's named programs are
    namespace: dict[str, object] = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        match block.language:
            case "python":
                if named := re.match(r"# (\w+\.py)\n", block.text):
                    Path(named[1]).write_text(block.text, encoding="utf-8")
                # Annotations are looked up by module, so the page's program has to be one.
                sys.modules["page"] = module = type(sys)("page")
                module.__dict__.update(namespace)
                printed = captured_program(block.text, module.__dict__, page)
                namespace = module.__dict__
            case "json" if named := re.search(r"this `(\w+\.json)`:\s*$", block.follows):
                Path(named[1]).write_text(block.text, encoding="utf-8")
            case "text" if not block.follows.strip():
                compare(block.text, printed, page)
            case "console":
                run_console(block.text, page)
            case _:
                pass


def captured_program(text: str, namespace: dict[str, object], page: Path) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(text, name(page), "exec", dont_inherit=True), namespace)
    return output.getvalue()


def run_console(text: str, page: Path) -> None:
    """Each `$ clew ...` line and the output that follows it."""
    for command, expected in re.findall(r"^\$ ([^\n]+)\n((?:(?!\$ )[^\n]*\n)*)", text, re.MULTILINE):
        arguments = shlex.split(command)
        if arguments[0] != "clew":
            raise SystemExit(f"{name(page)}: only `clew` commands are run in console blocks, not {command!r}")
        program = [sys.executable, "-m", "clew.cli", *arguments[1:]]
        result = subprocess.run(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        compare(expected, result.stdout, page)


def compare(expected: str, printed: str, page: Path) -> None:
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("..."))
    if not re.fullmatch(pattern, printed.strip(), re.DOTALL):
        raise SystemExit(f"{name(page)} promises:\n{expected}\nprinted:\n{printed}")


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
