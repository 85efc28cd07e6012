"""What a process and its children have used, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int | None) -> float:
    """Processor time of a process and its children, those that have ended too; 0 for no process."""
    if pid is None:
        return 0.0
    total = 0
    for each in family(pid):
        fields = _stat(each)
        if fields:
            total += sum(map(int, fields[11:15]))  # user, system, and those of children that were waited for
    return total / _TICKS


def resident_bytes(pid: int) -> int:
    """Memory that a process and its children hold; what they share counts for each."""
    return sum(int(fields[21]) * _PAGE for each in family(pid) if (fields := _stat(each)))


def family(pid: int) -> list[int]:
    """A process and all processes below it."""
    parents = {
        int(entry.name): int(fields[1])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name)))
    }
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of a process after its name; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
