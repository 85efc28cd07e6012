"""The API reference is what docstrings, signatures and routes say now, and nothing public is without a docstring."""

from __future__ import annotations

from tools import http_reference
from tools.reference import FOLDER, build


def test_reference_is_what_the_source_says() -> None:
    reference = build()
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("clew.*.md")}

    assert reference.undocumented == []
    stale = [name for name, text in reference.pages.items() if written.get(name) != text]
    assert stale == [], "run: python tasks.py reference"
    assert sorted(set(written) - set(reference.pages)) == []


def test_http_reference_is_what_the_service_says() -> None:
    written = (FOLDER / "http.md").read_text(encoding="utf-8")

    assert written == http_reference.page(), "run: python tasks.py reference"


def test_every_route_has_a_description() -> None:
    page = http_reference.page()

    sections = page.partition("## Bodies")[0].split("\n### ")[1:]
    assert len(sections) > 20
    assert [section.splitlines()[0] for section in sections if not section.splitlines()[2].strip()] == []
