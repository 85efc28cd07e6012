"""Names that mean the same everywhere: in a graph, in its stored writes and in the configuration of a run.

Those without a leading `__` contract are for users; the reserved ones are part of the stored format.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ("CONF", "CONFIG_KEY_CHECKPOINTER", "END", "START", "TAG_HIDDEN", "TAG_NOSTREAM", "TASKS")

START: Final = sys.intern("__start__")
"""Where a graph begins: the source of edges to the nodes that run first."""
END: Final = sys.intern("__end__")
"""Where a graph ends: the target of edges from the nodes that run last."""
TAG_NOSTREAM: Final = sys.intern("nostream")
"""A model with this tag shows no messages."""
TAG_HIDDEN: Final = sys.intern("langsmith:hidden")
"""A node with this tag is not shown."""

# reserved channels of a task's writes
INPUT: Final = sys.intern("__input__")
INTERRUPT: Final = sys.intern("__interrupt__")
RESUME: Final = sys.intern("__resume__")
ERROR: Final = sys.intern("__error__")
ERROR_SOURCE_NODE: Final = sys.intern("__error_source_node__")
NO_WRITES: Final = sys.intern("__no_writes__")
RETURN: Final = sys.intern("__return__")
PREVIOUS: Final = sys.intern("__previous__")
TASKS: Final = sys.intern("__pregel_tasks")
OVERWRITE: Final = sys.intern("__overwrite__")

# the two kinds of task: sent by `Send`, or triggered by an edge
PUSH: Final = sys.intern("__pregel_push")
PULL: Final = sys.intern("__pregel_pull")

NS_SEP: Final = sys.intern("|")
NS_END: Final = sys.intern(":")
NULL_TASK_ID: Final = sys.intern("00000000-0000-0000-0000-000000000000")

# keys of config["configurable"]
CONF: Final = "configurable"
CONFIG_KEY_THREAD_ID: Final = "thread_id"
CONFIG_KEY_CHECKPOINT_ID: Final = "checkpoint_id"
CONFIG_KEY_CHECKPOINT_NS: Final = "checkpoint_ns"
CONFIG_KEY_CHECKPOINT_MAP: Final = "checkpoint_map"
CONFIG_KEY_CHECKPOINT_TENANT: Final = "checkpoint_tenant"
CONFIG_KEY_CHECKPOINTER: Final = "__pregel_checkpointer"
CONFIG_KEY_TASK_ID: Final = "__pregel_task_id"
CONFIG_KEY_SEND: Final = "__pregel_send"
CONFIG_KEY_READ: Final = "__pregel_read"
CONFIG_KEY_RUNTIME: Final = "__pregel_runtime"
CONFIG_KEY_UNSAVED: Final = "__clew_unsaved"  # names of what is in `configurable` and not for checkpoints' metadata
CONFIG_KEY_STRICT_RESUME: Final = "__pregel_strict_resume"

CONTROL_WRITES: Final = frozenset((ERROR, ERROR_SOURCE_NODE, INTERRUPT, RESUME))
NEVER_APPLIED: Final = frozenset((NO_WRITES, PUSH, RESUME, INTERRUPT, RETURN, ERROR, ERROR_SOURCE_NODE))
RESERVED: Final = frozenset(
    (
        TAG_HIDDEN,
        INPUT,
        INTERRUPT,
        RESUME,
        ERROR,
        ERROR_SOURCE_NODE,
        NO_WRITES,
        PUSH,
        PULL,
        NS_SEP,
        NS_END,
        CONF,
        CONFIG_KEY_CHECKPOINTER,
        CONFIG_KEY_CHECKPOINT_MAP,
        CONFIG_KEY_CHECKPOINT_ID,
        CONFIG_KEY_CHECKPOINT_NS,
        CONFIG_KEY_TASK_ID,
        CONFIG_KEY_SEND,
        CONFIG_KEY_READ,
        CONFIG_KEY_STRICT_RESUME,
    )
)
DEFAULT_RECURSION_LIMIT: Final = 10007
