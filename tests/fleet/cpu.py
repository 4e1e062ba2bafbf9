# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds of trees of processes, read from outside.

A process carries the time of the children that it waited for, so a tree has the time of all that ever ran in it, as
long as the first process is there: on a host of the lab, that one inherits and reaps what others leave behind.

All trees are read in one look at all processes. psutil has a look at them for each tree: measured, 64 ms of CPU for 16
trees in place of 6, on the machine whose CPU is what is measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process that runs: its parent, its own CPU seconds, and those of the children that it has waited for."""

    parent: int
    own: float
    reaped: float


def process(identifier: int) -> Process | None:
    """Return a process by its number; None when it ended. Source: proc_pid_stat(5), fields 4 and 14 to 17."""
    try:
        text = Path(f"/proc/{identifier}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) / _TICKS for field in fields[11:15])
    return Process(int(fields[1]), user + system, children_user + children_system)


def seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """Return the seconds that each tree used until now, by the number of its first process."""
    processes = {number: found for number in _numbers() if (found := process(number))}
    children: dict[int, list[int]] = {}
    for number, each in processes.items():
        children.setdefault(each.parent, []).append(number)
    return {name: sum(_used(number, processes, children)) for name, number in roots.items()}


def of_all(mark: str) -> float:
    """Return the CPU seconds until now of all processes whose command line holds ``mark``."""
    return sum(found.own for number in named(mark) if (found := process(number)))


def named(mark: str) -> list[int]:
    """Return the numbers of the processes whose command line holds ``mark``."""
    return [number for number in _numbers() if mark.encode() in _command_line(number)]


def _used(root: int, processes: Mapping[int, Process], children: Mapping[int, list[int]]) -> Iterator[float]:
    waiting = [root]
    while waiting:
        number = waiting.pop()
        waiting += children.get(number, [])
        if number in processes:
            yield processes[number].own + processes[number].reaped


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _command_line(number: int) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""
