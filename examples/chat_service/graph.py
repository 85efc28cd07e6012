"""The graph: retrieve -> answer -> summarise. Nodes say in the log what they have done."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict

from clew.graph import START, StateGraph

log = logging.getLogger("chat")

NOTES = {"rome": "Trains to Rome leave at nine.", "tea": "Tea is served at five.", "rain": "It rains on Mondays."}


class Message(TypedDict):
    id: str
    role: str  # "user" or "assistant"
    content: str


class Chat(TypedDict, total=False):
    messages: Annotated[list[Message], operator.add]
    notes: list[str]
    summary: str


async def model(messages: list[Message], notes: list[str]) -> str:
    """Your model goes here. This one needs no key: it repeats the notes, and counts what it was asked."""
    asked = sum(message["role"] == "user" for message in messages)
    return f"{' '.join(notes) or 'I have no note on that.'} (question {asked})"


async def retrieve(chat: Chat) -> Chat:
    said = unanswered(chat)
    words = re.findall(r"\w+", " ".join(message["content"] for message in said).lower())
    log.info("retrieve %s", said[-1]["id"])
    return {"notes": [note for word, note in NOTES.items() if word in words]}


async def answer(chat: Chat) -> Chat:
    last = unanswered(chat)[-1]["id"]
    reply = await model(chat["messages"], chat["notes"])
    log.info("answer %s", last)
    return {"messages": [{"id": f"{last}-reply", "role": "assistant", "content": reply}]}


async def summarise(chat: Chat) -> Chat:
    said, reply = chat["messages"][-2:]
    log.info("summarise %s", said["id"])
    return {"summary": f"{len(chat['messages'])} messages, the last one: {reply['content']}"}


def unanswered(chat: Chat) -> list[Message]:
    """What was said since the last answer: usually one message, more if a run was cut off by the next message."""
    messages = chat["messages"]
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[answers[-1] + 1 if answers else 0 :]


def reply_to(message_id: str, chat: Chat) -> str | None:
    """The first answer after a message: it is about everything that was said before it."""
    messages = iter(chat.get("messages", ()))
    if has_message(message_id, messages):  # which leaves what comes after it
        return next((message["content"] for message in messages if message["role"] == "assistant"), None)
    return None


def has_message(message_id: str, messages: Iterable[Message]) -> bool:
    """Whether a user's message is among `messages`; an iterator stops right after it."""
    return any(message["role"] == "user" and message["id"] == message_id for message in messages)


def build() -> StateGraph[Any]:
    return StateGraph(Chat).add_sequence([retrieve, answer, summarise]).add_edge(START, "retrieve")
