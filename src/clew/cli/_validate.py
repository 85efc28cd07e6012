"""`clew validate` and `clew config`: a configuration file, looked at before it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from typer import Argument, Typer

from clew._loading import is_builder, is_compiled
from clew.checkpoint.sqlite import SqliteSaver
from clew.cli import _show as show
from clew.cli._serve import FILE, check_installed
from clew.cli._values import to_json
from clew.errors import ConfigError, GraphError

config_app = Typer(help="The configuration file of a service.", no_args_is_help=True)


def validate(config: Annotated[Path, Argument(help="the configuration file")] = Path(FILE)) -> None:
    """Check a configuration file, and load all that it names."""
    check_installed()
    from clew.server import create_app  # late: needs the extra
    from clew.server.deployment import from_file

    found = from_file(config)
    with SqliteSaver.from_conn_string(":memory:") as saver:
        try:
            create_app(found.graphs, saver, auth=found.auth, http=found.http)
        except (TypeError, ValueError, GraphError) as error:
            raise ConfigError(str(config), [str(error)]) from error
    table = Table(box=None, pad_edge=False)
    for title in ("graph", "is", "nodes", "from"):
        table.add_column(title, overflow="fold")
    for name, graph in found.graphs.items():
        table.add_row(name, *described(graph), found.places[name])
    show.results.print(table)
    for notice in found.notices:
        show.notes.print(f"note: {notice}", style="dim")
    show.show_fact("valid", str(config))


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    check_installed()
    from clew.server.config import Config  # late: needs the extra

    show.results.print(to_json(Config.model_json_schema(), indent=2))


def described(graph: Any) -> tuple[str, str]:
    """What kind of graph this is, and its nodes."""
    if is_builder(graph):
        return "graph", ", ".join(graph.nodes)
    if is_compiled(graph):
        return "compiled graph", ", ".join(name for name in graph.nodes if not name.startswith("__"))
    return "factory", ""
