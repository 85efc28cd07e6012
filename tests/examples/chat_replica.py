"""The chat service as it is, with a model that is somewhere else: it asks the address in MODEL_PORT.

For `uvicorn tests.examples.chat_replica:app`.
"""

from __future__ import annotations

import asyncio
import os

from examples.chat_service import graph
from examples.chat_service.app import app

__all__ = ("app",)


async def model(messages: list[graph.Message], notes: list[str]) -> str:
    """What the model of the test says to the last message."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["MODEL_PORT"]))
    writer.write(messages[-1]["content"].encode() + b"\n")
    reply = (await reader.readline()).decode().strip()
    writer.close()
    if not reply:
        raise ConnectionError("the model has hung up")
    return f"{reply} {' '.join(notes)}".strip()


graph.model = model
