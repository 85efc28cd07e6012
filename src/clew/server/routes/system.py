"""Whether the service is there, and what it can do."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from clew.server.caller import Service
from clew.server.formats import reply
from clew.server.metrics import CONTENT_TYPE
from clew.threads import EVERYONE
from clew.version import __version__

SURFACE = "0.16.7"  # the version of the field's platform whose surface this is; user interfaces ask for it
router = APIRouter(tags=["system"])
meta = APIRouter(tags=["system"])  # what an application may hide


@router.get("/ok")
async def ok(request: Request, check_db: bool = False) -> Response:
    """Whether the service answers and, with `check_db`, its database."""
    service: Service = request.app.state.clew
    if check_db and "meta" not in service.http.disabled:
        await service.threads.of(EVERYONE).alist(limit=1)
    return reply({"ok": True, "services": {}})


@meta.get("/info")
async def info() -> Response:
    """What the service can do; user interfaces ask first."""
    flags = {
        "assistants": True,
        "crons": True,
        "strict_resume": True,
        "langsmith": False,
        "langsmith_tracing_replicas": False,
    }
    return reply(
        {
            "version": SURFACE,
            "langgraph_py_version": None,
            "clew_version": __version__,
            "flags": flags,
            "host": {"kind": "self-hosted"},
        }
    )


@meta.get("/metrics")
async def metrics(request: Request, format: Literal["prometheus", "json"] = "prometheus") -> Response:
    """What this process counts and times, for Prometheus; tells of no owner, thread or run."""
    service: Service = request.app.state.clew
    measured = await service.measured()
    if format == "json":
        return reply(measured.as_json())
    return Response(measured.as_text(), media_type=CONTENT_TYPE)
