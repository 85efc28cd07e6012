"""What `clew serve` refuses before it serves, and `clew validate`, which looks at a configuration file."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Clew
from tests.modules import own_modules

__all__ = ["own_modules"]

pytestmark = pytest.mark.usefixtures("own_modules")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """What a command says about logging is undone."""
    loggers = [logging.getLogger(name) for name in ("clew", "uvicorn", "clew.server.access")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def configured(app: str, **config: object) -> None:
    """A configuration file in the working folder that serves the application's graphs."""
    graphs = {"chat": f"./{app}.py:builder", "ready": {"path": f"{app}:compiled"}, "made": f"./{app}.py:factory"}
    Path("langgraph.json").write_text(json.dumps({"graphs": graphs, **config}))


def test_valid_file_is_shown_with_its_graphs(app: str, clew: Clew) -> None:
    configured(app, python_version="3.12")

    shown = clew("validate")

    assert (shown.status, shown.out.splitlines()[-1]) == (0, "valid      langgraph.json")
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[1:4] == [
        ["chat", "graph", "talk", f"./{app}.py:builder"],
        ["ready", "compiled", "graph", "talk", f"{app}:compiled"],
        ["made", "factory", f"./{app}.py:factory"],
    ]
    assert shown.err == "note: python_version has no effect: no image is built\n"


def test_file_is_valid_only_if_all_that_it_names_is_there(app: str, clew: Clew) -> None:
    configured(app, http={"app": f"./{app}.py:web", "cors": {"allow_origin": []}})
    assert "http.cors.allow_origin: unknown key; did you mean 'allow_origins'?" in clew("validate").err

    configured(app, http={"app": f"./{app}.py:web"}, auth={"path": f"./{app}.py:number"})
    shown = clew("validate", "langgraph.json")
    assert shown.status == 1
    assert shown.err.startswith("error: langgraph.json: http.app: module")

    configured(app, auth={"path": f"./{app}.py:number"})
    assert "error: langgraph.json: auth is a int, not a langgraph_sdk.Auth" in clew("validate").err


def test_graph_that_does_not_compile_is_not_valid(app: str, clew: Clew) -> None:
    Path("broken.py").write_text("from clew.graph import StateGraph\n\ngraph = StateGraph(dict)\n")
    Path("langgraph.json").write_text('{"graphs": {"broken": "./broken.py:graph"}}')

    assert clew("validate").err.startswith("error: langgraph.json: ")


def test_schema_of_the_file_is_printed(clew: Clew) -> None:
    schema = json.loads(clew("config", "schema").out)

    assert {"$schema", "graphs", "http", "checkpointer"} <= set(schema["properties"])
    assert schema["properties"]["graphs"]["description"].startswith("The graphs, by the names")


@pytest.mark.parametrize(
    ("arguments", "config", "message"),
    [
        ([], None, "error: there is nothing to serve\nhint: name graphs (clew serve app.py:chat), or a file:"),
        (["none.py:graph"], None, "error: there is no file 'none.py'"),
        (["{app}:chat", "--config", "langgraph.json"], {}, "error: graphs and --config exclude each other"),
        ([], {"htttp": {}}, "error: langgraph.json: htttp: unknown key; did you mean 'http'?"),
        ([], {"auth": {"path": "./{app}.py:nobody"}}, "error: langgraph.json: auth.path: module"),
        ([], {"http": {"app": "./{app}.py:builder"}}, "error: langgraph.json: http.app is a StateGraph, not"),
        ([], {"checkpointer": {"path": "./{app}.py:builder"}}, "error: langgraph.json: checkpointer.path: it gives"),
        (["--db", "nowhere/clew.db"], {}, "error: there is no folder 'nowhere' for the database 'clew.db'"),
        (["--host", "0.0.0.0"], {}, "error: a service without authentication does not listen on '0.0.0.0'"),
    ],
)
def test_what_cannot_be_served_is_said(
    app: str, clew: Clew, arguments: list[str], config: dict[str, object] | None, message: str
) -> None:
    if config is not None:
        configured(app, **json.loads(json.dumps(config).replace("{app}", app)))

    refused = clew("serve", "--port", "0", *(argument.replace("{app}", app) for argument in arguments))

    assert refused.status == 1
    assert refused.err.startswith(message), refused.err
    assert ("--allow-anonymous does it all the same" in refused.err) == ("--host" in arguments)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_extra_that_is_missing_is_said(app: str, package: str) -> None:
    program = f"import sys\nsys.modules[{package!r}] = None\nfrom clew.cli import main\nmain(['serve', '{app}:chat'])"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert result.returncode == 1
    assert "needs a package that is not installed\nhint: install it with: pip install 'clew[server]'" in result.stderr


def test_port_that_is_taken_is_said(app: str, clew: Clew) -> None:
    configured(app)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = clew("serve", "--port", str(port))

    said = f"error: 127.0.0.1:{port} cannot be listened on: Address already in use"
    assert (refused.status, refused.err.splitlines()[0]) == (1, said)
