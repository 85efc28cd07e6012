"""`langgraph.json`: files as users have them, and all that can be wrong with one."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import ConfigError, LoadError
from clew.retention import ThreadTtl
from clew.server import Security, create_app
from clew.server.configfile import read_config
from clew.server.deployment import Deployment, from_file, from_targets
from tests.modules import own_modules

__all__ = ["own_modules"]

pytestmark = pytest.mark.usefixtures("own_modules")

GRAPH = """
from typing import TypedDict

from clew.graph import START, StateGraph

State = TypedDict("State", {"text": str})
builder = StateGraph(State)
builder.add_node("say", lambda state: {"text": state["text"] + "!"})
builder.add_edge(START, "say")
graph = builder.compile()


def make(config):
    return builder


number = 42
"""


def project(folder: Path, config: Any, **files: str) -> Path:
    """A project's files, `__` for the slashes of their paths; gives the path of its configuration."""
    for name, text in {"agent": GRAPH, **files}.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    file = folder / "langgraph.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return file


def problems(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        from_file(file)
    assert str(refused.value).startswith(f"{file}: ")
    return list(refused.value.problems)


def served(deployment: Deployment) -> Any:
    """The application, made as `clew serve` does."""
    return create_app(deployment.graphs, SqliteSaver(":memory:"), auth=deployment.auth, http=deployment.http)


def test_project_of_the_platforms_template(tmp_path: Path) -> None:
    """A package below `src`, whose modules import each other from its root."""
    config = {
        "$schema": "https://langgra.ph/schema.json",
        "dependencies": ["."],
        "graphs": {"template_agent": "./src/template_agent/graph.py:graph"},
        "env": ".env",
        "image_distro": "wolfi",
    }
    (tmp_path / ".env").write_text("TEMPLATE_GREETING='hello # there'\nexport TEMPLATE_LEVEL=2\n# a comment\n")
    os.environ["TEMPLATE_LEVEL"] = "9"
    package = {
        "src__template_agent____init__": "from template_agent.graph import graph\n",
        "src__template_agent__graph": f"from template_agent.tools import word\n{GRAPH}\n",
        "src__template_agent__tools": "word = 'clew'\n",
    }
    package = {name.replace("____init__", "/__init__"): text for name, text in package.items()}

    deployment = from_file(project(tmp_path, config, **package))

    assert list(deployment.graphs) == ["template_agent"]
    assert (os.environ["TEMPLATE_GREETING"], os.environ["TEMPLATE_LEVEL"]) == ("hello # there", "9")
    assert deployment.notices == ("image_distro has no effect: no image is built",)


def test_project_with_several_graphs_of_one_name(tmp_path: Path) -> None:
    config = {
        "python_version": "3.12",
        "dependencies": ["./shared", "no-such-package>=2", "git+https://example.com/x.git", "pytest"],
        "graphs": {
            "first": {"path": "./first/agent.py:graph", "description": "Answers first."},
            "second": "second/agent.py:builder",
            "made": "./agent.py:make",
        },
        "env": {"SEVERAL_KEY": "value"},
        "dockerfile_lines": ["RUN apt-get install -y git"],
    }
    own = f"from several_shared import word\n{GRAPH}"
    files = {"first__agent": own, "second__agent": own, "shared__several_shared": "word = 'clew'"}

    deployment = from_file(project(tmp_path, config, **files))

    modules = {name: type(graph).__name__ for name, graph in deployment.graphs.items()}
    assert modules == {"first": "CompiledStateGraph", "second": "StateGraph", "made": "function"}
    assert deployment.descriptions == {"first": "Answers first."}
    assert os.environ["SEVERAL_KEY"] == "value"
    assert deployment.notices == (
        "python_version has no effect: no image is built",
        "dockerfile_lines has no effect: no image is built",
        "dependencies[1]: 'no-such-package>=2' is not there; nothing is installed",
    )


def test_project_with_routes_of_its_own_and_its_own_users(tmp_path: Path) -> None:
    config = {
        "graphs": {"agent": "./agent.py:graph"},
        "auth": {
            "path": "./who.py:keys",
            "disable_studio_auth": False,
            "cache": {"ttl_seconds": 60},
            "openapi": {"securitySchemes": {"key": {"type": "apiKey"}}, "security": [{"key": []}]},
        },
        "http": {
            "app": "./webapp.py:app",
            "mount_prefix": "/api/",
            "enable_custom_route_auth": True,
            "disable_store": True,
            "disable_mcp": True,
            "middleware_order": "middleware_first",
            "configurable_headers": {"includes": ["x-tenant"], "excludes": None},
            "logging_headers": {"includes": ["x-trace-*"]},
            "cors": {"allow_origin_regex": r"https://.*\.example\.com", "allow_credentials": True},
        },
    }
    webapp = "from fastapi import FastAPI\n\napp = FastAPI()\n"

    deployment = from_file(project(tmp_path, config, webapp=webapp, who="keys = {'secret': 'ada'}"))
    http = deployment.http

    assert deployment.auth == {"secret": "ada"}
    assert (http.mount_prefix, http.disabled, http.authenticates_app) == ("/api", {"store"}, True)
    assert http.configurable_headers.includes == ("x-tenant",)
    assert http.security == Security({"key": {"type": "apiKey"}}, [{"key": []}])
    assert http.cors is not None
    assert (http.cors.allow_origins, http.cors.allow_credentials) == ((), True)
    assert {notice.partition(" ")[0] for notice in deployment.notices} == {
        "http.logging_headers",
        "auth.disable_studio_auth",
        "auth.cache",
    }
    assert served(deployment).state.clew.http is http


def test_project_with_a_memory_and_an_end_of_it(tmp_path: Path) -> None:
    config = {
        "graphs": {"agent": "agent.py:graph"},
        "store": {
            "index": {"embed": "./embed.py:embed", "dims": 3, "fields": ["text"], "clear_fields": []},
            "ttl": {"default_ttl": 1440, "refresh_on_read": False, "sweep_interval_minutes": 10},
        },
        "checkpointer": {
            "ttl": {"strategy": "keep_latest", "default_ttl": 43200, "sweep_interval_minutes": 60, "sweep_limit": 100},
            "serde": {
                "allowed_msgpack_modules": [["embed", "Note"]],
                "allowed_json_modules": None,
                "pickle_fallback": False,
            },
        },
        "webhooks": {"url": {"require_https": True}, "headers": {"authorization": "${{ env.LG_WEBHOOK_KEY }}"}},
        "encryption": None,
    }
    os.environ["LG_WEBHOOK_KEY"] = "secret"
    embed = "class Note: ...\n\n\ndef embed(texts):\n    return [[1.0, 0.0, 0.0] for _ in texts]\n"

    deployment = from_file(project(tmp_path, config, embed=embed))

    assert deployment.index is not None
    assert (deployment.index["embed"]([""]), deployment.index["fields"]) == ([[1.0, 0.0, 0.0]], ["text"])  # type: ignore[operator] - a function
    assert deployment.index["clear_fields"] == []
    assert deployment.item_ttl == {
        "default_ttl": 1440,
        "refresh_on_read": False,
        "sweep_interval_minutes": 10,
        "omit_expired": True,
    }
    assert [each.__name__ for each in deployment.classes] == ["Note"]
    assert deployment.ttl == ThreadTtl(
        strategy="keep_latest", default=timedelta(days=30), sweep_every=timedelta(hours=1), sweep_limit=100
    )
    assert (deployment.webhooks.require_https, deployment.webhooks.headers) == (True, {"authorization": "secret"})


def test_embeddings_of_a_provider_stay_a_name(tmp_path: Path) -> None:
    for embed in ("openai:text-embedding-3-small", "ollama:llama2", "cohere:embed-english-v3.0"):
        config = {"graphs": {"agent": "agent.py:graph"}, "store": {"index": {"embed": embed, "dims": 3}}}

        index = from_file(project(tmp_path, config)).index

        assert index is not None
        assert index["embed"] == embed


def test_variables_that_are_not_there_are_said(tmp_path: Path) -> None:
    deployment = from_file(project(tmp_path, {"graphs": {"agent": "agent.py:graph"}, "env": ".env"}))

    assert deployment.notices == ("env: there is no file '.env'",)


AGENT = {"agent": "./agent.py:graph"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ('{"graphs": {}, "graphs": {}}', "key 'graphs' is there twice"),
        ([], "is not a JSON object"),
        ({}, "graphs: is missing"),
        ({"graphs": {}}, "graphs: Dictionary should have at least 1 item after validation, not 0"),
        ({"graphs": AGENT, "dependancies": ["."]}, "dependancies: unknown key; did you mean 'dependencies'?"),
        ({"graphs": AGENT, "http": {"cors": {"origins": []}}}, "http.cors.origins: unknown key; did you mean 'allow_"),
        ({"graphs": {"a": {"description": "x"}}}, "graphs.a.path: is missing"),
        ({"graphs": AGENT, "http": {"zzz": 1}}, "http.zzz: unknown key; known here: app, configurable_headers, cors,"),
        ({"graphs": {"a": "agent.py"}}, "graphs.a: 'agent.py' is not './file.py:name' or 'module:name'"),
        ({"graphs": {"a": "./a.ts:graph"}}, "graphs.a: './a.ts:graph' is JavaScript, which is not served"),
        ({"graphs": {"a": "./agent.py:graff"}}, "graphs.a: module './agent.py' has no 'graff'; graphs in it: builder"),
        ({"graphs": {"a": "./agent.py:number"}}, "graphs.a: './agent.py:number' is 'int', which is not a graph; "),
        ({"graphs": {"a": "./no.py:graph"}}, "graphs.a: there is no file "),
        ({"graphs": {"a": "./broken.py:graph"}}, "graphs.a: ValueError: no key (at "),
        ({"graphs": {"a": "./peer.py:graph"}}, "graphs.a: './peer.py:graph' is a graph of LangGraph's; import"),
        ({"graphs": AGENT, "dependencies": ["./nowhere"]}, "dependencies[0]: there is no folder './nowhere'"),
        ({"graphs": AGENT, "env": {"PORT": 1}}, "env: the value of 'PORT' is not a text"),
        ({"graphs": AGENT, "http": {"app": "./agent.py:web"}}, "http.app: module './agent.py' has no 'web'"),
        ({"graphs": AGENT, "http": {"mount_prefix": "api"}}, "http.mount_prefix: 'api' does not start with '/'"),
        ({"graphs": AGENT, "http": {"disable_webhooks": True}}, "http: disable_webhooks cannot be honoured: say in"),
        ({"graphs": AGENT, "webhooks": {"url": {"disable_loopback": False}}}, "webhooks.url: disable_loopback: false"),
        ({"graphs": AGENT, "webhooks": {"headers": {"x": "${{ env.HOME }}"}}}, "webhooks.headers: a header"),
        ({"graphs": AGENT, "http": {"disable_runs": 1}}, "http.disable_runs: Input should be a valid boolean"),
        ({"graphs": AGENT, "http": {"app": "agent.py:a", "middleware_order": "auth_first"}}, "http: middleware_order"),
        ({"graphs": AGENT, "http": {"cors": {"allow_origin_regex": "("}}}, "http.cors: '(' is no regular expression"),
        ({"graphs": AGENT, "encryption": {"path": "a.py:b"}}, "encryption: cannot be honoured: set CLEW"),
        ({"graphs": AGENT, "priority": {"path": "a.py:b"}}, "priority: cannot be honoured: "),
        ({"graphs": AGENT, "checkpointer": {"serde": {"pickle_fallback": True}}}, "checkpointer.serde: pickle_"),
        (
            {"graphs": AGENT, "checkpointer": {"serde": {"allowed_msgpack_modules": True}}},
            "checkpointer.serde: allowed_msgpack_modules: true is refused",
        ),
        (
            {"graphs": AGENT, "checkpointer": {"serde": {"allowed_msgpack_modules": [["agent", "make"]]}}},
            "checkpointer.serde.allowed_msgpack_modules[0]: 'make' is not a class",
        ),
        ({"graphs": AGENT, "checkpointer": {"ttl": {"strategy": "drop"}}}, "checkpointer.ttl.strategy: Input"),
        ({"graphs": AGENT, "store": {"ttl": {"default_ttl": -1}}}, "store.ttl.default_ttl: Input should be greater"),
        ({"graphs": AGENT, "store": {"index": {"embed": "./agent.py:no", "dims": 3}}}, "store.index.embed: module"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_said_with_its_place(tmp_path: Path, config: Any, expected: str) -> None:
    peer = "from langgraph.graph import StateGraph\n\ngraph = StateGraph(dict)\n"

    found = problems(project(tmp_path, config, broken="raise ValueError('no key')\n", peer=peer))

    assert len(found) == 1
    assert found[0].startswith(expected), found[0]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    config = {"graphs": {"a": "./agent.py:x", "b": "./none.py:graph"}, "http": {"app": "./agent.py:y"}}

    assert [each.partition(":")[0] for each in problems(project(tmp_path, config))] == [
        "graphs.a",
        "graphs.b",
        "http.app",
    ]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"langgraph\.json: cannot be read: No such file"):
        read_config(tmp_path / "langgraph.json")


def test_graphs_are_named_by_their_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, {})
    monkeypatch.chdir(tmp_path)

    deployment = from_targets(["agent.py:graph", "plain=agent:builder"])

    assert dict(deployment.places) == {"graph": "agent.py:graph", "plain": "agent:builder"}
    assert deployment.item_ttl["sweep_interval_minutes"] == 5
    with pytest.raises(LoadError, match="two graphs are called 'graph'"):
        from_targets(["agent.py:graph", "graph=agent:builder"])
    with pytest.raises(LoadError, match="'=agent:graph' has no name before '='"):
        from_targets(["=agent:graph"])
    with pytest.raises(LoadError, match=r"'agent\.py' is not MODULE:NAME"):
        from_targets(["agent.py"])
