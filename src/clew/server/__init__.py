"""The HTTP API that the field's clients speak, over graphs and a saver.

`create_app` gives a FastAPI application that runs by itself or is mounted in one's own. Invariant: nothing here is
global; what an application serves is on its `app.state`. Every route reaches threads, assistants and items through the
caller's `Owner`, and what is another owner's does not exist.
"""

from clew.errors import MissingExtraError

try:
    from clew.server.app import create_app
    from clew.server.auth import ApiKeys, Owner
    from clew.server.duties import DutySettings
    from clew.server.http import Cors, HeaderRules, HttpSettings, configurable_of
    from clew.server.openapi import Security
    from clew.server.webhooks import WebhookSettings
    from clew.server.work.worker import WorkSettings
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "starlette", "pydantic", "pydantic_core", "prometheus_client", "cronsim"):
        raise
    raise MissingExtraError("the HTTP service", "server") from error

__all__ = (
    "ApiKeys",
    "Cors",
    "DutySettings",
    "HeaderRules",
    "HttpSettings",
    "Owner",
    "Security",
    "WebhookSettings",
    "WorkSettings",
    "configurable_of",
    "create_app",
)
