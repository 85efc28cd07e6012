"""`clew graph`: a graph's picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from clew.cli import _show as show
from clew.cli._problem import CommandError
from clew.cli._run import Target
from clew.cli._target import load


def graph(
    target: Target,
    form: Annotated[Literal["mermaid", "svg", "ascii"], Option("--format", help="what to draw")] = "mermaid",
    output: Annotated[Path | None, Option(help="a file to write, instead of standard output")] = None,
    xray: Annotated[bool, Option(help="draw subgraphs from inside")] = False,
) -> None:
    """Draw a graph: Mermaid text, SVG or ASCII."""
    drawing = load(target).get_graph(xray=xray)
    match form:
        case "mermaid":
            text = drawing.draw_mermaid()
        case "svg":
            text = drawing.draw_svg()
        case "ascii":
            text = drawing.draw_ascii()
    if output is None:
        show.results.print(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the picture cannot be written to {str(output)!r}: {error.strerror}") from error
    show.show_fact("written", str(output))
