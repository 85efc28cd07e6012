"""What a saver is to its users: the field's names for storing and reading checkpoints, and the types they pass.

Savers of clew also serve the engine through `clew.protocols.Saver`, which is where runs are fenced; these methods are
the older, id-addressed face over the same log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

from clew.errors import EmptyChannelError
from clew.ids import checkpoint_id

__all__ = (
    "EXCLUDED_METADATA_KEYS",
    "WRITES_IDX_MAP",
    "BaseCheckpointSaver",
    "ChannelVersions",
    "Checkpoint",
    "CheckpointMetadata",
    "CheckpointTuple",
    "DeltaChannelHistory",
    "EmptyChannelError",
    "PendingWrite",
    "copy_checkpoint",
    "create_checkpoint",
    "empty_checkpoint",
    "get_checkpoint_id",
    "get_checkpoint_metadata",
    "get_serializable_checkpoint_metadata",
    "writes_sort_key",
)

V = TypeVar("V", int, float, str)

RunnableConfig = dict[str, Any]
ChannelVersions = dict[str, "str | int | float"]
"""The versions of channels, by name."""
PendingWrite = tuple[str, str, Any]
"""A task's id, a channel, and the value written to it."""

LATEST_VERSION = 4

WRITES_IDX_MAP = {"__error__": -1, "__scheduled__": -2, "__interrupt__": -3, "__resume__": -4}
"""The places of writes that say what happened to a task; its ordinary writes count from 0."""

EXCLUDED_METADATA_KEYS = frozenset(
    (
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
        "checkpoint_tenant",
        "langgraph_step",
        "langgraph_node",
        "langgraph_triggers",
        "langgraph_path",
        "langgraph_checkpoint_ns",
    )
)
"""Keys of a config that say where a run is: a checkpoint's metadata does not repeat them."""


class CheckpointMetadata(TypedDict, total=False):
    """What is known about a checkpoint besides its state.

    `source` is what made it, `step` its number (-1 for the first input), `parents` the ids of the checkpoints of the
    enclosing namespaces, `run_id` the run that made it.
    """

    source: Literal["input", "loop", "update", "fork"]
    step: int
    parents: dict[str, str]
    run_id: str


class Checkpoint(TypedDict):
    """The state after a superstep. `id` sorts by time; `ts` is ISO 8601 in UTC; versions only ever grow."""

    v: int
    id: str
    ts: str
    channel_values: dict[str, Any]
    channel_versions: ChannelVersions
    versions_seen: dict[str, ChannelVersions]
    updated_channels: list[str] | None


class CheckpointTuple(NamedTuple):
    """A checkpoint with its address, its parent's, and the writes that follow it."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    parent_config: RunnableConfig | None = None
    pending_writes: list[PendingWrite] | None = None


class DeltaChannelHistory(TypedDict, total=False):
    """What one channel received along the ancestors of a checkpoint: `writes`, oldest first, since the `seed`."""

    writes: list[PendingWrite]
    seed: Any


class BaseCheckpointSaver(Generic[V]):
    """The base of savers. Every method has an async twin; what a saver cannot do raises `NotImplementedError`."""

    serde: Any = None

    def __init__(self, *, serde: Any = None) -> None:
        if serde is not None:
            self.serde = serde

    @property
    def config_specs(self) -> list[Any]:
        """Further fields of `configurable` that the saver reads: none."""
        return []

    def get(self, config: RunnableConfig) -> Checkpoint | None:
        """The checkpoint that `config` addresses, or None."""
        found = self.get_tuple(config)
        return None if found is None else found.checkpoint

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` addresses with all that belongs to it; the newest one without an id."""
        raise NotImplementedError

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first: of one thread, or of all with `config` None.

        `filter` is equality on metadata keys; `before` gives only those older than the checkpoint it addresses.
        """
        raise NotImplementedError

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint as the child of the one `config` addresses; gives the config that addresses it.

        `new_versions` are the channels whose value is new.
        """
        raise NotImplementedError

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store a task's writes behind the checkpoint that `config` addresses.

        A write that is stored already stays as it is, unless all are of the kinds in `WRITES_IDX_MAP`.
        """
        raise NotImplementedError

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread with all its namespaces."""
        raise NotImplementedError

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove every checkpoint that the runs made."""
        raise NotImplementedError

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread's whole history to a thread that does not exist yet."""
        raise NotImplementedError

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Shorten threads: "keep_latest" keeps the newest checkpoint of each namespace, "delete" nothing."""
        raise NotImplementedError

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What each channel received along the parents of a checkpoint, since the nearest one that stores its value."""
        walk = _DeltaWalk(channels)
        found = self.get_tuple(config) if channels else None
        while found is not None and found.parent_config is not None and walk.remaining:
            found = self.get_tuple(found.parent_config)
            if found is not None:
                walk.visit(found)
        return walk.result()

    async def aget(self, config: RunnableConfig) -> Checkpoint | None:
        """As `get`."""
        found = await self.aget_tuple(config)
        return None if found is None else found.checkpoint

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        raise NotImplementedError

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        raise NotImplementedError

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        raise NotImplementedError

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        raise NotImplementedError

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        raise NotImplementedError

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        raise NotImplementedError

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        raise NotImplementedError

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        raise NotImplementedError

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        walk = _DeltaWalk(channels)
        found = await self.aget_tuple(config) if channels else None
        while found is not None and found.parent_config is not None and walk.remaining:
            found = await self.aget_tuple(found.parent_config)
            if found is not None:
                walk.visit(found)
        return walk.result()

    def get_next_version(self, current: V | None, channel: None) -> V:
        """The version after `current`; versions of a channel only grow."""
        if isinstance(current, str):
            raise NotImplementedError
        return 1 if current is None else current + 1

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> BaseCheckpointSaver[V]:
        """A saver on the same storage that also knows the classes named by (module, class) pairs."""
        raise NotImplementedError


class _DeltaWalk:
    """Collects writes on the way from a checkpoint to its ancestors."""

    def __init__(self, channels: Sequence[str]) -> None:
        self._channels = channels
        self._writes: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        self._seeds: dict[str, Any] = {}
        self.remaining = set(channels)

    def visit(self, ancestor: CheckpointTuple) -> None:
        for write in reversed(ancestor.pending_writes or []):
            if write[1] in self.remaining:
                self._writes[write[1]].append(write)
        values = ancestor.checkpoint["channel_values"]
        for channel in [channel for channel in self.remaining if channel in values]:
            self._seeds[channel] = values[channel]
            self.remaining.discard(channel)

    def result(self) -> dict[str, DeltaChannelHistory]:
        result: dict[str, DeltaChannelHistory] = {}
        for channel in self._channels:
            result[channel] = {"writes": self._writes[channel][::-1]}
            if channel in self._seeds:
                result[channel]["seed"] = self._seeds[channel]
        return result


def empty_checkpoint() -> Checkpoint:
    """The checkpoint of a thread on which nothing has happened."""
    return Checkpoint(
        v=LATEST_VERSION,
        id=checkpoint_id(),
        ts=datetime.now(UTC).isoformat(),
        channel_values={},
        channel_versions={},
        versions_seen={},
        updated_channels=None,
    )


def copy_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """A copy whose dicts can be changed without changing the original; the values themselves are shared."""
    return Checkpoint(
        v=checkpoint["v"],
        id=checkpoint["id"],
        ts=checkpoint["ts"],
        channel_values=dict(checkpoint["channel_values"]),
        channel_versions=dict(checkpoint["channel_versions"]),
        versions_seen={node: dict(versions) for node, versions in checkpoint["versions_seen"].items()},
        updated_channels=checkpoint.get("updated_channels"),
    )


def create_checkpoint(
    checkpoint: Checkpoint, channels: Mapping[str, Any] | None, step: int, *, id: str | None = None
) -> Checkpoint:
    """The checkpoint after `checkpoint`, with the present values of `channels` (None: those it has)."""
    values: dict[str, Any] = {}
    for name, channel in (channels or {}).items():
        if name not in checkpoint["channel_versions"]:
            continue
        try:
            values[name] = channel.checkpoint()
        except EmptyChannelError:
            continue
    return Checkpoint(
        v=LATEST_VERSION,
        id=id or checkpoint_id(checkpoint["id"]),
        ts=datetime.now(UTC).isoformat(),
        channel_values=checkpoint["channel_values"] if channels is None else values,
        channel_versions=checkpoint["channel_versions"],
        versions_seen=checkpoint["versions_seen"],
        updated_channels=None,
    )


def get_checkpoint_id(config: RunnableConfig) -> str | None:
    """The checkpoint id in a config, or None."""
    return config["configurable"].get("checkpoint_id")


def get_checkpoint_metadata(config: RunnableConfig, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata` with every scalar of the config's `metadata` and `configurable` that is not reserved."""
    found = dict(metadata)
    sources: list[dict[str, Any]] = [config.get("metadata") or {}, config.get("configurable") or {}]
    for source in sources:
        for key, value in source.items():
            if key in found or key in EXCLUDED_METADATA_KEYS or key.startswith("__"):
                continue
            if isinstance(value, str | int | float):
                found[key] = value
    return found


def get_serializable_checkpoint_metadata(config: RunnableConfig, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As `get_checkpoint_metadata`, without the writes that older versions kept there."""
    found = get_checkpoint_metadata(config, metadata)
    found.pop("writes", None)
    return found


def writes_sort_key(task_path: str, task_id: str = "", idx: int = 0) -> tuple[str, str, int]:
    """The order of the writes of one superstep."""
    return (task_path, task_id, idx)
