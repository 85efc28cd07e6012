"""From what the engine emits to what a caller of `stream` sees: which modes, in which shape.

Invariant: the shape of a chunk is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from clew.constants import INTERRUPT
from clew.types import GraphOutput

ENGINE_MODES = frozenset(("values", "updates", "checkpoints", "tasks", "messages"))
KNOWN_MODES = ENGINE_MODES | {"debug", "custom"}


def engine_modes(modes: frozenset[str]) -> frozenset[str]:
    """The modes the engine has to emit for these stream modes."""
    needed = modes & ENGINE_MODES
    return needed | {"checkpoints", "tasks"} if "debug" in modes else needed


class Shaper:
    """Gives chunks the form a caller asked for."""

    __slots__ = ("is_single", "is_v2", "modes", "output_mapper", "prints", "with_ns")

    def __init__(
        self,
        stream_mode: str | Sequence[str],
        *,
        with_ns: bool,
        is_v2: bool,
        print_mode: str | Sequence[str] = (),
        output_mapper: Callable[[Any], Any] | None = None,
    ) -> None:
        self.is_single = isinstance(stream_mode, str)
        self.modes = frozenset((stream_mode,) if isinstance(stream_mode, str) else stream_mode)
        self.prints = frozenset((print_mode,) if isinstance(print_mode, str) else print_mode)
        unknown = (self.modes | self.prints) - KNOWN_MODES
        if unknown:
            raise ValueError(
                f"unknown stream mode {sorted(unknown)[0]!r}; the modes are {', '.join(sorted(KNOWN_MODES))}"
            )
        self.with_ns = with_ns
        self.is_v2 = is_v2
        self.output_mapper = output_mapper

    @property
    def wanted(self) -> frozenset[str]:
        """All modes that are streamed or printed."""
        return self.modes | self.prints

    def show(self, put: Callable[[Any], None], ns: tuple[str, ...], mode: str, data: Any) -> None:
        """Print and put a chunk of a mode that is wanted, as the caller asked."""
        if mode in self.prints:
            print((*([ns] if ns else []), mode, data))
        if mode in self.modes:
            put(self.chunk(ns, mode, data))

    def chunk(self, ns: tuple[str, ...], mode: str, data: Any) -> Any:
        """One chunk in the caller's form."""
        if self.is_v2:
            return self._part(ns, mode, data)
        if self.is_single:
            return (ns, data) if self.with_ns else data
        return (ns, mode, data) if self.with_ns else (mode, data)

    def _part(self, ns: tuple[str, ...], mode: str, data: Any) -> dict[str, Any]:
        part: dict[str, Any] = {"type": mode, "ns": ns, "data": data}
        if mode == "values":
            interrupts: Any = ()
            if isinstance(data, dict) and INTERRUPT in data:
                values = cast("dict[str, Any]", data)
                interrupts = values[INTERRUPT]
                data = {key: value for key, value in values.items() if key != INTERRUPT}
            part["data"] = self.output_mapper(data) if self.output_mapper is not None and not ns else data
            part["interrupts"] = interrupts
        return part


def last_value(chunks: Sequence[Any], version: str) -> Any:
    """What `invoke` gives of a run's "values" chunks: the last one, with every question that was asked."""
    if not chunks:
        return None
    if version == "v2":
        return GraphOutput(chunks[-1]["data"], tuple(q for chunk in chunks for q in chunk["interrupts"]))
    dicts = [cast("dict[str, Any]", chunk) for chunk in chunks if isinstance(chunk, dict)]
    questions = [question for chunk in dicts for question in chunk.get(INTERRUPT, ())]
    return {**chunks[-1], INTERRUPT: questions} if questions else chunks[-1]


def debug_event(mode: str, payload: Any, step: int) -> dict[str, Any]:
    """What mode "debug" shows of a checkpoint or task event."""
    from datetime import UTC, datetime  # late: start-up time

    kind = "checkpoint" if mode == "checkpoints" else ("task_result" if "result" in payload else "task")
    return {"step": step, "timestamp": datetime.now(UTC).isoformat(), "type": kind, "payload": payload}
