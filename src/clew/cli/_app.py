"""The commands together, and what becomes of an error."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import clew
from clew.cli import _draw, _inspect, _prune, _run, _serve, _validate
from clew.cli import _show as show
from clew.errors import ClewError

_paths = sysconfig.get_paths()
_NOT_THE_USERS = (str(Path(clew.__file__).parent), _paths["stdlib"], _paths["purelib"], _paths["platlib"], "<")

app = typer.Typer(
    name="clew",
    help="Durable graphs: run them, look at their threads, draw them, check a database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def show_version(is_asked: bool) -> None:
    """Print the version, and end."""
    if is_asked:
        typer.echo(f"clew {clew.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", is_eager=True, callback=show_version)
    ] = False,
) -> None:
    """Durable graphs: run them, look at their threads, draw them, check a database."""


for command in (
    _run.run,
    _run.resume,
    _inspect.state,
    _inspect.history,
    _run.fork,
    _inspect.threads,
    _draw.graph,
    _inspect.doctor,
    _prune.prune,
    _serve.serve,
    _serve.dev,
    _validate.validate,
):
    app.command()(command)
app.add_typer(_validate.config_app, name="config")


def run_app(arguments: Sequence[str]) -> None:
    """Run one command; an error is a message on standard error and status 1, whoever's error it is."""
    try:
        app(args=list(arguments), prog_name="clew")
    except ClewError as error:
        # A hint is one of the error's notes; a run adds where it happened.
        show.show_error(str(error), notes_of(error))
        raise SystemExit(1) from error
    except Exception as error:
        show.show_error(f"{type(error).__name__}: {error}", [*notes_of(error), *place_of(error)])
        raise SystemExit(1) from error


def notes_of(error: BaseException) -> list[str]:
    return [str(note) for note in getattr(error, "__notes__", [])]


def place_of(error: BaseException) -> list[str]:
    """Where the user's own code was when it failed; nothing if none of it was running."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THE_USERS)
    ]
    return [f"at {own[-1].filename}:{own[-1].lineno}"] if own else []
