"""How SVG pictures look: fonts, colours for light and dark pages, and how wide a text is."""

from __future__ import annotations

from html import escape
from typing import Final
from unicodedata import combining, east_asian_width

from clew.graph._drawing.words import printable

__all__ = ("SMALL", "STYLE", "TEXT", "text_width", "xml_text")

TEXT: Final = 14.0
SMALL: Final = 12.0

_NARROW = frozenset("ijlItf.,:;'|!()[]{}` /\\-r")
_WIDE = frozenset("mwMW@%")


def text_width(text: str, size: float) -> float:
    """About how wide a text is in a common sans-serif font of `size` pixels; rather too wide than too narrow."""
    return size * sum(map(_advance, text))


def xml_text(text: str) -> str:
    """The text as it may stand in an XML document: escaped, without characters that XML cannot hold."""
    return escape(printable(text))


def _advance(character: str) -> float:
    if combining(character):
        return 0.0
    if east_asian_width(character) in "WF":
        return 1.05
    if character in _NARROW:
        return 0.38
    if character in _WIDE:
        return 0.95
    return 0.72 if character.isupper() else 0.6


_LIGHT = {
    "text": "#1f2433", "quiet": "#626a80", "line": "#8089a0", "node": "#ffffff", "edge": "#5b6cd9", "end": "#5b6cd9",
    "on-end": "#ffffff", "odd": "#f4f5fa", "even": "#e9ebf5", "frame": "#d3d7e6", "new": "#d9622b",
}  # fmt: skip
_DARK = {
    "text": "#e8eaf2", "quiet": "#9aa3b8", "line": "#79839c", "node": "#232838", "edge": "#8c9bff", "end": "#8c9bff",
    "on-end": "#12141c", "odd": "#1a1e2a", "even": "#202534", "frame": "#363d52", "new": "#f08a4b",
}  # fmt: skip


def _rules(scope: str, colours: dict[str, str]) -> str:
    rules = (
        ("text", f"fill:{colours['text']}"),
        (".note", f"fill:{colours['quiet']}"),
        (".label", f"fill:{colours['quiet']}"),
        (".node rect", f"fill:{colours['node']};stroke:{colours['edge']}"),
        (".end rect", f"fill:{colours['end']};stroke:{colours['end']}"),
        (".end text", f"fill:{colours['on-end']}"),
        (".line", f"stroke:{colours['line']}"),
        (".tip", f"fill:{colours['line']}"),
        (".frame", f"stroke:{colours['frame']}"),
        (".odd", f"fill:{colours['odd']}"),
        (".even", f"fill:{colours['even']}"),
        (".frame-title", f"fill:{colours['quiet']}"),
        (".dot", f"fill:{colours['node']};stroke:{colours['edge']}"),
        (".newest .dot", f"fill:{colours['new']};stroke:{colours['new']}"),
        (".newest text", f"fill:{colours['new']}"),
    )
    return "".join(f"{scope} {selector}{{{style}}}" for selector, style in rules)


STYLE: Final = (
    ".clew text{font:14px ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;"
    "text-anchor:middle}"
    ".clew .note,.clew .label,.clew .frame-title,.clew .row{font-size:12px}"
    ".clew .frame-title,.clew .row{text-anchor:start}.clew .frame-title{font-weight:600}"
    ".clew rect,.clew .dot{stroke-width:1.5}.clew .frame{stroke-width:1}"
    ".clew .line{fill:none;stroke-width:1.5}.clew .conditional .line{stroke-dasharray:5 4}"
    + _rules(".clew", _LIGHT)
    + "@media (prefers-color-scheme:dark){"
    + _rules(".clew", _DARK)
    + "}"
)
"""The style sheet of a picture; everything in it is scoped to the `clew` class, as pictures may be set inline."""
