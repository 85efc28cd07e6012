"""Calls to tools: that they began, what they gave, that they failed; heard from langchain-core's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from clew._langchain.messages import graph_namespace
from clew.constants import TAG_NOSTREAM
from clew.errors import GraphBubbleUp

Show = Callable[[tuple[tuple[str, ...], str, Any]], None]


class ToolHandler(BaseCallbackHandler):
    """Calls `show((namespace, "tools", data))`, on the thread or task that runs the tool."""

    run_inline = True

    def __init__(self, show: Show) -> None:
        self._show = show
        self._calls: dict[UUID, tuple[tuple[str, ...], str]] = {}

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A tool begins."""
        if not metadata or TAG_NOSTREAM in (tags or ()):
            return
        ns = graph_namespace(metadata) if metadata.get("langgraph_checkpoint_ns") else ()
        call = str(kwargs.get("tool_call_id") or run_id)
        self._calls[run_id] = ns, call
        name = str((serialized or {}).get("name") or kwargs.get("name") or "")
        said = {"event": "tool-started", "tool_call_id": call, "tool_name": name, "input": inputs or input_str}
        self._show((ns, "tools", said))

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool gave something."""
        if found := self._calls.pop(run_id, None):
            ns, call = found
            self._show((ns, "tools", {"event": "tool-finished", "tool_call_id": call, "output": output}))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A tool failed. One that asks a question is no failure: it begins again with the answer."""
        found = self._calls.pop(run_id, None)
        if found is not None and not isinstance(error, GraphBubbleUp):
            ns, call = found
            self._show((ns, "tools", {"event": "tool-error", "tool_call_id": call, "message": str(error)}))
