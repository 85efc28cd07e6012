"""How the command line speaks: one console for results, one for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from clew.cli._values import to_json
from clew.types import Interrupt

# Results go to standard output and stay on one line each, so that they can be piped.
results = Console(soft_wrap=True, highlight=False, markup=False)
notes = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def show_error(message: str, hints: Iterable[str] = ()) -> None:
    notes.print(Text.assemble(("error: ", "bold red"), message))
    for hint in hints:
        notes.print(Text(hint, style="dim"))


def show_update(update: dict[str, Any]) -> None:
    """One event of the stream mode "updates"."""
    cached = bool(update.get("__metadata__", {}).get("cached"))
    for node, value in update.items():
        if node not in {"__metadata__", "__interrupt__"}:
            kept = (" (not run again)", "dim") if cached else ""
            results.print(Text.assemble(("✓ ", "green"), (node, "bold"), kept, " ", to_json(value)))


def show_questions(questions: Iterable[Interrupt]) -> None:
    for question in questions:
        results.print(Text.assemble(("? ", "bold yellow"), to_json(question.value), ("  id ", "dim"), question.id))


def show_fact(label: str, value: str) -> None:
    results.print(Text.assemble((f"{label:11}", "dim"), value))
