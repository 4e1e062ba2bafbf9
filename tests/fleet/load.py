# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of registries while something runs: sampled from outside, a few times a second.

The connections are counted in the kernel's own table. psutil also finds out whose they are: measured, 20 ms of CPU for
a look in place of 6.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet import cpu

INTERVAL = 0.2
"""Seconds between two looks."""

WINDOW = 1.0
"""Seconds over which a rate is taken: much shorter ones are chance."""

_ESTABLISHED = "01"


@dataclass(frozen=True)
class Look:
    """A registry at one moment; all but the connections are sums that only grow.

    ``cpu`` is seconds, ``written`` bytes to sockets and files, ``requests`` those that were answered.
    """

    time: float
    cpu: float
    connections: int
    written: int
    requests: int


@dataclass(frozen=True)
class Load:
    """The load of one registry: its CPU seconds, and the most of everything in one second."""

    cpu: float = 0.0
    peak_cpu: float = 0.0
    peak_connections: int = 0
    peak_bytes: float = 0.0
    peak_requests: float = 0.0


@dataclass(frozen=True)
class Watched:
    """The place where a registry is watched; its log counts from a byte offset on."""

    process: int
    port: int
    access_log: Path
    since: int


@dataclass
class Watch:
    """The looks of each registry, and those of the controller."""

    looks: dict[str, list[Look]] = field(default_factory=dict)

    def load(self, name: str) -> Load:
        """Return the load of a registry meanwhile."""
        looks = self.looks[name]
        return Load(
            cpu=looks[-1].cpu - looks[0].cpu,
            peak_cpu=_peak(looks, lambda look: look.cpu),
            peak_connections=max(look.connections for look in looks),
            peak_bytes=_peak(looks, lambda look: look.written),
            peak_requests=_peak(looks, lambda look: look.requests),
        )


@contextmanager
def watching(registries: Mapping[str, Watched]) -> Iterator[Watch]:
    """Look at registries for the time of a block."""
    watch = Watch({name: [_look(watched)] for name, watched in registries.items()})
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(INTERVAL):
            for name, watched in registries.items():
                watch.looks[name].append(_look(watched))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
        for name, watched in registries.items():
            watch.looks[name].append(_look(watched))


def _look(watched: Watched) -> Look:
    process = cpu.process(watched.process)
    return Look(
        time.monotonic(),
        process.own if process else 0.0,
        _connections(watched.port),
        _written(watched.process),
        _lines(watched.access_log, watched.since),
    )


def _peak(looks: Sequence[Look], of: Callable[[Look], float]) -> float:
    """Return the steepest rise over a window, for each second."""
    best, begin = 0.0, 0
    for look in looks:
        while look.time - looks[begin].time > WINDOW and look.time - looks[begin + 1].time >= WINDOW:
            begin += 1
        span = max(look.time - looks[begin].time, WINDOW)
        best = max(best, (of(look) - of(looks[begin])) / span)
    return best


def _connections(port: int) -> int:
    """Count the open connections to a port of this machine (proc_net_tcp(5): local address, remote address, state)."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(fields[1].endswith(wanted) and fields[3] == _ESTABLISHED for fields in map(str.split, lines))


def _written(process: int) -> int:
    """Count the bytes that a process gave to system calls that write (proc_pid_io(5))."""
    try:
        lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def _lines(log: Path, since: int) -> int:
    with log.open("rb") as stream:
        stream.seek(since)
        return stream.read().count(b"\n")
