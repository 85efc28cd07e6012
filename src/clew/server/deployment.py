"""What is served, loaded: from a `langgraph.json`, or from targets such as `chat.py:graph`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from clew._loading import is_builder, is_compiled, load_object, put_on_path, split_target
from clew.errors import ConfigError, LoadError, MissingExtraError
from clew.retention import ThreadTtl
from clew.server.config import (
    AuthConfig,
    CheckpointerConfig,
    Config,
    HeadersConfig,
    HttpConfig,
    ItemTtlConfig,
    SerdeConfig,
    StoreConfig,
    WebhooksConfig,
    WebhookUrlConfig,
    without_effect,
)
from clew.server.configfile import read_config
from clew.server.http import Cors, HeaderRules, HttpSettings, Room
from clew.server.openapi import Security
from clew.server.webhooks import WebhookSettings, with_variables
from clew.store.base import IndexConfig, TTLConfig

_SWEEP_MINUTES = 5
ROOMS: tuple[Room, ...] = ("assistants", "threads", "runs", "store", "meta")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is served.

    `places` has where each graph is from. `auth` is as `create_app` takes it, None where everybody may use the service.
    `saver` makes the context manager of a saver, None: the database's own; `classes` are those that stored values may
    be of, beside those that are registered. `notices` say what of the file has no effect.
    """

    graphs: Mapping[str, Any]
    places: Mapping[str, str]
    descriptions: Mapping[str, str] = field(default_factory=dict[str, str])
    http: HttpSettings = field(default_factory=HttpSettings)
    auth: Any = None
    index: IndexConfig | None = None
    item_ttl: TTLConfig = field(default_factory=lambda: _item_ttl(ItemTtlConfig()))
    ttl: ThreadTtl = field(default_factory=ThreadTtl)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    saver: Any = None
    classes: tuple[type, ...] = ()
    config: Config | None = None
    notices: tuple[str, ...] = ()


def from_targets(targets: Sequence[str]) -> Deployment:
    """Graphs by target, `module:name` or `file.py:name`; each is called `name`, or `other` by `other=...`.

    Raises LoadError for one that is not there, or that is called as another one.
    """
    graphs: dict[str, Any] = {}
    places: dict[str, str] = {}
    for given in targets:
        alias, separator, target = given.partition("=")
        target = target if separator else given
        name = alias if separator else split_target(target)[1]
        if not name or name in graphs:
            raise LoadError(
                f"two graphs are called {name!r}" if name else f"{given!r} has no name before '='",
                hint="name them: first=a.py:graph second=b.py:graph",
            )
        graphs[name] = _graph(load_object(target), target)
        places[name] = target
    return Deployment(graphs, places)


def from_file(path: Path) -> Deployment:
    """What the file says, its folders on the path of imports and its variables in the environment.

    Raises ConfigError with every problem there is.
    """
    config = read_config(path)
    loader = _Loader(path, config)
    loader.prepare()
    deployment = loader.load()
    if loader.problems:
        raise ConfigError(str(path), loader.problems) from loader.first
    return deployment


class _Loader:
    """Loads what one file names; goes on after a problem, so that all are said at once."""

    def __init__(self, path: Path, config: Config) -> None:
        self._base = path.resolve().parent
        self._config = config
        self._notices = [f"{key} has no effect: {why}" for key, why in without_effect(config).items()]
        self.problems: list[str] = []
        self.first: Exception | None = None

    def prepare(self) -> None:
        """Set variables, and put folders where imports look."""
        for number, given in enumerate(self._config.dependencies):
            folder = self._base / given
            if not given.startswith((".", "/")):
                if not _is_installed(given):
                    self._notices.append(f"dependencies[{number}]: {given!r} is not there; nothing is installed")
            elif folder.is_dir():
                put_on_path(str(folder.resolve()))
                if (folder / "src").is_dir():
                    put_on_path(str((folder / "src").resolve()))
            else:
                self.problems.append(f"dependencies[{number}]: there is no folder {given!r}")
        for name, value in self._variables().items():
            os.environ.setdefault(name, value)

    def _variables(self) -> Mapping[str, str]:
        env = self._config.env
        if not isinstance(env, str):
            return env or {}
        file = self._base / env
        if not file.is_file():
            self._notices.append(f"env: there is no file {env!r}")
            return {}
        try:
            from dotenv import dotenv_values  # late: most services have no such file
        except ModuleNotFoundError as error:
            raise MissingExtraError("a file of variables", "server") from error

        return {name: value for name, value in dotenv_values(file).items() if value is not None}

    def load(self) -> Deployment:
        """All that is named."""
        config = self._config
        graphs = {
            name: self._object(f"graphs.{name}", graph.path, is_graph=True) for name, graph in config.graphs.items()
        }
        store = config.store or StoreConfig()
        checkpointer = config.checkpointer
        return Deployment(
            graphs=graphs,
            places={name: graph.path for name, graph in config.graphs.items()},
            descriptions={name: graph.description for name, graph in config.graphs.items() if graph.description},
            http=self._http(config.http or HttpConfig()),
            auth=self._object("auth.path", config.auth.path) if config.auth and config.auth.path else None,
            index=self._index(store),
            item_ttl=_item_ttl(store.ttl or ItemTtlConfig()),
            ttl=_ttl(checkpointer),
            webhooks=self._webhooks(config.webhooks or WebhooksConfig()),
            saver=self._object("checkpointer.path", checkpointer.path) if checkpointer and checkpointer.path else None,
            classes=self._classes(checkpointer.serde) if checkpointer and checkpointer.serde else (),
            config=config,
            notices=tuple(self._notices),
        )

    def _object(self, key: str, target: str, *, is_graph: bool = False) -> Any:
        try:
            found = load_object(target, self._base)
            return _graph(found, target) if is_graph else found
        except LoadError as error:
            self._failed(key, error, f"{error}; {error.hint}" if error.hint else str(error))
        except Exception as error:  # the user's own module raised it
            self._failed(key, error, f"{type(error).__name__}: {error}{_place(error)}")
        return None

    def _failed(self, key: str, error: Exception, said: str) -> None:
        self.problems.append(f"{key}: {said}")
        self.first = self.first or error

    def _http(self, http: HttpConfig) -> HttpSettings:
        cors = None
        if http.cors is not None:
            regex_only = http.cors.allow_origin_regex is not None and http.cors.allow_origins is None
            cors = Cors(
                allow_origins=() if regex_only else _tuple(http.cors.allow_origins, ("*",)),
                allow_origin_regex=http.cors.allow_origin_regex,
                allow_methods=_tuple(http.cors.allow_methods, ("*",)),
                allow_headers=_tuple(http.cors.allow_headers, ("*",)),
                allow_credentials=http.cors.allow_credentials,
                expose_headers=_tuple(http.cors.expose_headers, ()),
                max_age=http.cors.max_age,
            )
        return HttpSettings(
            cors=cors,
            configurable_headers=_rules(http.configurable_headers),
            disabled=frozenset(room for room in ROOMS if getattr(http, f"disable_{room}")),
            mount_prefix=http.mount_prefix,
            app=self._object("http.app", http.app) if http.app else None,
            authenticates_app=http.enable_custom_route_auth,
            security=_security(self._config.auth),
        )

    def _index(self, store: StoreConfig) -> IndexConfig | None:
        if store.index is None:
            return None
        embed = store.index.embed
        named: Any = self._object("store.index.embed", embed) if _is_object(embed) else embed
        index = IndexConfig(embed=named, dims=store.index.dims, fields=store.index.fields)
        if store.index.clear_fields is not None:
            index["clear_fields"] = store.index.clear_fields
        return index

    def _webhooks(self, webhooks: WebhooksConfig) -> WebhookSettings:
        url, headers = webhooks.url or WebhookUrlConfig(), dict[str, str]()
        try:
            headers = with_variables(webhooks.headers or {}, webhooks.env_prefix)
        except ValueError as error:
            self._failed("webhooks.headers", error, str(error))
        return WebhookSettings(
            allowed_domains=url.allowed_domains or None,
            allowed_ports=url.allowed_ports,
            require_https=url.require_https,
            max_url_length=url.max_url_length or WebhookSettings().max_url_length,
            headers=headers,
        )

    def _classes(self, serde: SerdeConfig) -> tuple[type, ...]:
        found: list[type] = []
        for key in ("allowed_msgpack_modules", "allowed_json_modules"):
            for number, parts in enumerate(getattr(serde, key) or ()):
                place = f"checkpointer.serde.{key}[{number}]"
                loaded = self._object(place, f"{'.'.join(parts[:-1])}:{parts[-1]}")
                if isinstance(loaded, type):
                    found.append(loaded)
                elif loaded is not None:
                    self.problems.append(f"{place}: {parts[-1]!r} is not a class")
        return tuple(found)


def _graph(found: Any, target: str) -> Any:
    """A graph, or what makes one; raises LoadError for anything else."""
    if type(found).__module__.split(".")[0] == "langgraph":
        raise LoadError(
            f"{target!r} is a graph of LangGraph's",
            hint="import StateGraph from clew.graph: the rest may stay as it is",
        )
    if not (is_builder(found) or is_compiled(found) or callable(found)) or isinstance(found, type):
        raise LoadError(
            f"{target!r} is {type(found).__name__!r}, which is not a graph",
            hint="name a StateGraph, a compiled graph, an entrypoint, or a function that makes one",
        )
    return found


def _is_installed(requirement: str) -> bool:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    if name is None or "://" in requirement or "+" in name[0]:
        return True  # nobody knows its name
    try:
        importlib.metadata.distribution(name[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _is_object(embed: str) -> bool:
    """Whether an embedding is named by where it is, not by a provider and a model."""
    place, _, name = embed.rpartition(":")
    if not place or not name.replace(".", "_").isidentifier():
        return False
    return place.endswith(".py") or "." in place or "/" in place or not _is_provider(place)


def _is_provider(place: str) -> bool:
    spec = importlib.util.find_spec(place)
    return spec is None or "site-packages" in (spec.origin or "")


def _item_ttl(said: ItemTtlConfig) -> TTLConfig:
    """What is not said is the platform's; but items that are over are swept, and not shown before that."""
    return TTLConfig(
        default_ttl=said.default_ttl,
        refresh_on_read=said.refresh_on_read,
        sweep_interval_minutes=said.sweep_interval_minutes or _SWEEP_MINUTES,
        omit_expired=True,
    )


def _ttl(checkpointer: CheckpointerConfig | None) -> ThreadTtl:
    if checkpointer is None or checkpointer.ttl is None:
        return ThreadTtl()
    said = checkpointer.ttl
    given: dict[str, Any] = {"strategy": said.strategy}
    if said.default_ttl is not None:
        given["default"] = timedelta(minutes=math.ceil(said.default_ttl))
    if said.sweep_interval_minutes is not None:
        given["sweep_every"] = timedelta(minutes=said.sweep_interval_minutes)
    if said.sweep_limit is not None:
        given["sweep_limit"] = said.sweep_limit
    return ThreadTtl(**given)


def _rules(headers: HeadersConfig | None) -> HeaderRules:
    if headers is None:
        return HeaderRules()
    includes = None if headers.includes is None else tuple(headers.includes)
    return HeaderRules(includes=includes, excludes=tuple(headers.excludes or ()))


def _security(auth: AuthConfig | None) -> Security | None:
    if auth is None or auth.openapi is None:
        return None
    said = auth.openapi
    return Security(said.security_schemes or {}, said.security, said.paths or {})


def _tuple(given: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if given is None else tuple(given)


def _place(error: Exception) -> str:
    """Where the user's own code was when it failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if Path(frame.filename).parent.name != "importlib"][1:]
    if isinstance(error, SyntaxError):
        return ""  # its message has the place
    return f" (at {own[-1].filename}:{own[-1].lineno})" if own else ""
