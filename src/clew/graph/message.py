"""Messages in a graph's state: the reducer that merges them by id, and the usual state that holds them.

Messages are langchain-core's, which is an optional dependency. Invariant: importing this module does not import it;
only merging does, so a graph without messages never pays for it, and `MessagesState` resolves without it (its
`messages` field is then a plain `list`; which message classes may be stored is known to the serializer by itself).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, overload

from clew._langchain import inherited_config, missing_extra
from clew.config import get_config
from clew.constants import CONF, CONFIG_KEY_SEND
from clew.errors import InvalidMessagesError

# pydantic before Python 3.12 refuses typing's TypedDict, and brings typing_extensions itself.
if TYPE_CHECKING or sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    try:
        from typing_extensions import TypedDict
    except ImportError:
        from typing import TypedDict

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage, BaseMessage, MessageLikeRepresentation, RemoveMessage

    MessageList = list[AnyMessage]
    Messages = list[MessageLikeRepresentation] | MessageLikeRepresentation
else:
    MessageList = list

__all__ = ("REMOVE_ALL_MESSAGES", "MessagesState", "RemoveMessage", "add_messages", "push_message")

REMOVE_ALL_MESSAGES = "__remove_all__"
"""The id of a `RemoveMessage` that removes every message before it."""

MessagesFormat = Literal["langchain-openai"]
_FORMATS = (None, "langchain-openai")


@overload
def add_messages(left: Messages, right: Messages, *, format: MessagesFormat | None = None) -> list[BaseMessage]: ...
@overload
def add_messages(*, format: MessagesFormat | None = None) -> Callable[[Messages, Messages], list[BaseMessage]]: ...
def add_messages(left: Any = None, right: Any = None, *, format: MessagesFormat | None = None) -> Any:
    """Merge `right` into `left` by message id and give a new list; `left` itself is not changed.

    Either side is a list of messages or one message, each a langchain-core message or what it converts from: text, a
    `(role, text)` pair or a dict with `role` and `content`. A message whose id `left` has takes that one's place, any
    other is appended, and one without an id is given a random one (on the object itself). A `RemoveMessage` removes
    the message with its id, or every message before it if the id is `REMOVE_ALL_MESSAGES`. Chunks are made whole.

    With `format="langchain-openai"` the contents are rewritten to what OpenAI's chat API takes. Called with no
    messages, gives a reducer with that format: `Annotated[list, add_messages(format="langchain-openai")]`.

    Raises `InvalidMessagesError` (a `ValueError`) if one side is missing, something is not a message, a
    `RemoveMessage` names an id that is not there, or the format is unknown; `MissingExtraError` without langchain-core.
    """
    if format not in _FORMATS:
        raise InvalidMessagesError(
            f"add_messages does not know the format {format!r}", hint="use 'langchain-openai', or leave it out"
        )
    if left is None and right is None:
        return partial(add_messages, format=format)
    if left is None or right is None:
        missing = "left" if left is None else "right"
        raise InvalidMessagesError(
            f"add_messages needs two lists of messages, and {missing!r} is None", hint="pass [] for no messages"
        )
    try:
        from clew.graph._merge import merge  # late: imports langchain-core, an optional dependency
    except ModuleNotFoundError as error:
        raise missing_extra(error, "merging messages with add_messages") from error
    return merge(left, right, format=format)


class MessagesState(TypedDict):
    """The state of a chat: `messages`, merged by id."""

    messages: Annotated[MessageList, add_messages]


def push_message(message: MessageLikeRepresentation, *, state_key: str | None = "messages") -> AnyMessage:
    """Stream `message` in mode "messages" from inside a node now, and write it to the channel `state_key`.

    With `state_key=None` it is only streamed. The message must have an id (`InvalidMessagesError` otherwise), so that
    it is not streamed again when it arrives with the state. Gives the message, converted to langchain-core's class.
    """
    try:
        from clew._langchain.messages import push  # late: imports langchain-core, an optional dependency
        from clew.graph._merge import whole_message
    except ModuleNotFoundError as error:
        raise missing_extra(error, "push_message") from error
    whole = whole_message(message)
    if whole.id is None:
        raise InvalidMessagesError("push_message needs a message with an id", hint="give the message an id of its own")
    config = get_config()
    push(whole, inherited_config() or config)
    if state_key is not None:
        config[CONF][CONFIG_KEY_SEND]([(state_key, whole)])
    return cast("AnyMessage", whole)


def __getattr__(name: str) -> Any:
    """`RemoveMessage` is langchain-core's own class, found when it is first asked for."""
    if name != "RemoveMessage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_core.messages import RemoveMessage  # late: an optional dependency
    except ModuleNotFoundError as error:
        raise missing_extra(error, "RemoveMessage") from error
    return RemoveMessage
