"""The file that says what is served: `langgraph.json`, as the field's platform reads it.

Each key is honoured, or refused, or (where it is about building an image) accepted without effect; the page
`docs/how-to/serve.md` has the table. Reading the file is done by `clew.server.configfile`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def refused(message: str) -> PydanticCustomError:
    """A value that cannot be honoured."""
    return PydanticCustomError("refused", message.replace("{", "{{").replace("}", "}}"))  # pyright: ignore[reportArgumentType] - a literal is asked for


def _python(target: str) -> str:
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise refused(f"{target!r} is not './file.py:name' or 'module:name'")
    if place.endswith((".ts", ".js", ".mjs", ".cjs", ".mts", ".cts", ".tsx", ".jsx")):
        raise refused(f"{target!r} is JavaScript, which is not served: run it with the platform's own server")
    return target


def _graph(given: Any) -> Any:
    return {"path": given} if isinstance(given, str) else given


def _env(given: Any) -> Any:
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, dict):
        raise refused("a path of a file of variables, or an object of them, is expected")
    if wrong := [key for key, value in cast("dict[str, Any]", given).items() if not isinstance(value, str)]:
        raise refused(f"the value of {wrong[0]!r} is not a text")
    return cast("Any", given)


def _prefix(given: str) -> str:
    prefix = given.rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise refused(f"{given!r} does not start with '/'")
    return prefix


Object = Annotated[str, AfterValidator(_python)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """The base of the file's sections: a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class GraphConfig(Section):
    """A graph: a compiled one, a `StateGraph`, or a factory."""

    path: Object
    """`./file.py:name` or `module:name`."""
    description: str | None = None
    """What the graph's assistant says it is for."""


class CorsConfig(Section):
    """Which pages of other origins a browser lets read the answers."""

    allow_origins: list[str] | None = None
    allow_origin_regex: str | None = None
    allow_methods: list[str] | None = None
    allow_headers: list[str] | None = None
    allow_credentials: bool = False
    expose_headers: list[str] | None = None
    max_age: Annotated[int, Field(ge=0)] = 600
    """Seconds."""

    @model_validator(mode="after")
    def _is_said(self) -> CorsConfig:
        if self.allow_origin_regex is not None:
            _compiles(self.allow_origin_regex)
        return self


class HeadersConfig(Section):
    """Names of headers, `*` for any characters in them; what is excluded is never meant."""

    includes: list[str] | None = None
    excludes: list[str] | None = None


class HttpConfig(Section):
    """How the service is reached."""

    app: Object | None = None
    """A Starlette or FastAPI application, whose routes are looked at first."""
    cors: CorsConfig | None = None
    configurable_headers: HeadersConfig | None = None
    """Headers that nodes find in `config["configurable"]`."""
    logging_headers: HeadersConfig | None = None
    """No effect: no header is logged."""
    disable_assistants: bool = False
    disable_threads: bool = False
    disable_runs: bool = False
    disable_store: bool = False
    disable_meta: bool = False
    """No `/info`, `/metrics`, `/docs`, `/openapi.json`; `/ok` looks at nothing."""
    disable_webhooks: bool = False
    """Not served: `webhooks.url` says where they may go."""
    disable_mcp: bool = False
    """There is none."""
    disable_a2a: bool = False
    """There is none."""
    disable_ui: bool = False
    """There is none."""
    mount_prefix: Annotated[str, AfterValidator(_prefix)] = ""
    """What every path starts with."""
    middleware_order: Literal["middleware_first", "auth_first"] | None = None
    """Only "middleware_first": middleware of `app` runs before authentication."""
    enable_custom_route_auth: bool = False
    """Whether routes of `app` are for those only who may use the service."""

    @model_validator(mode="after")
    def _can_be(self) -> HttpConfig:
        if self.disable_webhooks:
            raise refused("disable_webhooks cannot be honoured: say in webhooks.url where they may go")
        if self.middleware_order == "auth_first" and self.app is not None:
            raise refused('middleware_order "auth_first" cannot be honoured: middleware runs before authentication')
        return self


class SecurityConfig(Section):
    """What the generated documentation says about authentication; names as in OpenAPI."""

    security_schemes: Annotated[dict[str, dict[str, Any]] | None, Field(alias="securitySchemes")] = None
    """How who asks is known, by name."""
    security: list[dict[str, list[str]]] | None = None
    """Which of them all routes need."""
    paths: dict[str, dict[str, list[dict[str, list[str]]]]] | None = None
    """Which of them a route needs, by path and method, where that differs."""


class AuthConfig(Section):
    """Who may use the service."""

    path: Object | None = None
    """A `langgraph_sdk.Auth`, a mapping of API keys to users, or an async function of a request."""
    disable_studio_auth: bool = True
    """No effect: who comes from the Studio is authenticated as everybody else."""
    openapi: SecurityConfig | None = None
    """Security schemes for the generated documentation."""
    cache: dict[str, Any] | None = None
    """No effect: each request is authenticated."""


class IndexConfig(Section):
    """How items of the store are found by meaning."""

    embed: str
    """`./file.py:function`, `module:object`, or `provider:model` of LangChain."""
    dims: Annotated[int, Field(gt=0)]
    fields: list[str] | None = None
    clear_fields: list[str] | None = None
    """Where values are encrypted: those whose vectors may be stored all the same. Not a key of the platform's."""


class ItemTtlConfig(Section):
    """How long items live that do not say it themselves."""

    default_ttl: Minutes | None = None
    refresh_on_read: bool = True
    sweep_interval_minutes: Annotated[int, Field(gt=0)] | None = None
    """How often expired items are deleted (default 5)."""


class StoreConfig(Section):
    """The store, in the database of the threads."""

    index: IndexConfig | None = None
    ttl: ItemTtlConfig | None = None


class ThreadTtlConfig(Section):
    """How long threads live that do not say it themselves."""

    strategy: Literal["delete", "keep_latest"] = "delete"
    default_ttl: Minutes | None = None
    sweep_interval_minutes: Annotated[int, Field(gt=0)] | None = None
    sweep_limit: Annotated[int, Field(gt=0)] | None = None


class SerdeConfig(Section):
    """Which classes stored values may be of. Stored bytes never import anything: what is named is imported at once."""

    allowed_msgpack_modules: list[list[str]] | bool | None = None
    allowed_json_modules: list[list[str]] | bool | None = None
    pickle_fallback: bool = False

    @model_validator(mode="after")
    def _is_safe(self) -> SerdeConfig:
        if self.pickle_fallback:
            raise refused("pickle_fallback is refused: who can write to the database could run any code")
        for name in ("allowed_msgpack_modules", "allowed_json_modules"):
            if getattr(self, name) is True:
                raise refused(f"{name}: true is refused, since it lets stored bytes import anything; list the classes")
            for each in getattr(self, name) or ():
                if len(each) < 2:
                    raise refused(f"{name}: {each} is not [module, ..., class]")
        return self


class CheckpointerConfig(Section):
    """Where and how threads are kept."""

    path: Object | None = None
    """A context manager of a saver of clew, instead of `--db`."""
    ttl: ThreadTtlConfig | None = None
    serde: SerdeConfig | None = None


class WebhookUrlConfig(Section):
    """Where webhooks may go."""

    require_https: bool = False
    allowed_domains: list[str] | None = None
    """Hosts; `*.example.com` is all below it. None: every public one."""
    allowed_ports: list[int] | None = None
    max_url_length: Annotated[int, Field(gt=0)] | None = None
    disable_loopback: bool = True
    """Webhooks never go to this machine."""

    @model_validator(mode="after")
    def _is_safe(self) -> WebhookUrlConfig:
        if not self.disable_loopback:
            raise refused("disable_loopback: false cannot be honoured: webhooks go to public addresses only")
        return self


class WebhooksConfig(Section):
    """What is told of ended runs, and to whom."""

    env_prefix: str = "LG_WEBHOOK_"
    """What the name of a variable in `headers` has to start with."""
    url: WebhookUrlConfig | None = None
    headers: dict[str, str] | None = None
    """Sent with each; `${{ env.NAME }}` stands for a variable."""


def _compiles(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise refused(f"{pattern!r} is no regular expression: {error}") from error


def _not_served(instead: str) -> BeforeValidator:
    def check(given: Any) -> Any:
        if given is not None:
            raise refused(f"cannot be honoured: {instead}")
        return given

    return BeforeValidator(check)


class Config(Section):
    """What is served."""

    model_config = ConfigDict(serialize_by_alias=True)

    json_schema: Annotated[str | None, Field(alias="$schema")] = None
    """Where editors find this schema."""
    graphs: Annotated[
        dict[Annotated[str, Field(min_length=1)], Annotated[GraphConfig, BeforeValidator(_graph)]],
        Field(min_length=1),
    ]
    """The graphs, by the names that clients know; each a path, or an object."""
    dependencies: list[str] = []
    """Folders where modules are looked for, from the file's own. Packages are not installed."""
    env: Annotated[dict[str, str] | str | None, BeforeValidator(_env)] = None
    """Variables, or the path of a file of them. One that is set already stays as it is."""
    http: HttpConfig | None = None
    auth: AuthConfig | None = None
    store: StoreConfig | None = None
    checkpointer: CheckpointerConfig | None = None
    webhooks: WebhooksConfig | None = None
    encryption: Annotated[None, _not_served("set CLEW_ENCRYPTION_KEYS, and all that is stored is encrypted")] = None
    """Not served: set CLEW_ENCRYPTION_KEYS."""
    priority: Annotated[None, _not_served("runs of a thread go in their order, threads side by side")] = None
    """Not served."""

    python_version: Any = None
    node_version: Any = None
    api_version: Any = None
    base_image: Any = None
    image_distro: Any = None
    pip_config_file: Any = None
    pip_installer: Any = None
    dockerfile_lines: Any = None
    keep_pkg_tools: Any = None
    source: Any = None
    ui: Any = None
    ui_config: Any = None
    internal_docker_tag: Annotated[Any, Field(alias="_INTERNAL_docker_tag")] = None


OF_IMAGES = (
    "python_version", "node_version", "api_version", "base_image", "image_distro", "pip_config_file", "pip_installer",
    "dockerfile_lines", "keep_pkg_tools", "source", "ui", "ui_config", "internal_docker_tag",
)  # fmt: skip


def without_effect(config: Config) -> Mapping[str, str]:
    """The keys that the file has and that change nothing, with why."""
    found = {_said(key): "no image is built" for key in OF_IMAGES if key in config.model_fields_set}
    if config.http is not None and config.http.logging_headers is not None:
        found["http.logging_headers"] = "no header is logged"
    if config.auth is not None and not config.auth.disable_studio_auth:
        found["auth.disable_studio_auth"] = "who comes from the Studio is authenticated as everybody else"
    if config.auth is not None and config.auth.cache is not None:
        found["auth.cache"] = "each request is authenticated"
    return found


def _said(field: str) -> str:
    return Config.model_fields[field].alias or field
