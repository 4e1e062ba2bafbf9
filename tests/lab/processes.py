# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that ``up`` started: started once, recorded, recognised again, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import paths

STOP_SECONDS = 10.0


class DidNotAnswer(Exception):
    """A part was started and did not answer in time."""


@dataclass(frozen=True)
class Started:
    """A process of ours: its pid and, since pids are used again, when it started (clock ticks since boot)."""

    pid: int
    start_ticks: int
    recipe: str

    def alive(self) -> bool:
        """Tell whether that very process still runs."""
        return _start_ticks(self.pid) == self.start_ticks


def recorded(name: str) -> Started | None:
    """Return the recorded process of that name, if it still runs."""
    try:
        started = Started(**json.loads(_record(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return started if started.alive() else None


def names() -> list[str]:
    """Return the names of all recorded processes."""
    return sorted(file.stem for file in paths.run().glob("*.json"))


def start(
    name: str,
    argv: Sequence[str | Path],
    stdout: Path,
    stderr: Path,
    recipe: str = "",
    env: Mapping[str, str] | None = None,
) -> Started:
    """Start ``argv`` as a daemon of its own session and record it under ``name``."""
    with stdout.open("ab") as out, stderr.open("ab") as err:
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    started = Started(process.pid, _start_ticks(process.pid) or 0, recipe)
    draft = _record(name).with_suffix(".new")
    draft.write_text(json.dumps(asdict(started)), encoding="utf-8")
    draft.rename(_record(name))
    return started


def stop(name: str, by: signal.Signals = signal.SIGTERM) -> bool:
    """Stop the recorded process, SIGKILL when ``by`` was not enough; return whether it was running."""
    started = recorded(name)
    if started:
        os.kill(started.pid, by)
        if not _wait(lambda: not started.alive(), STOP_SECONDS):
            os.kill(started.pid, signal.SIGKILL)
            _wait(lambda: not started.alive(), STOP_SECONDS)
    _record(name).unlink(missing_ok=True)
    return started is not None


def wait_until(answers: Callable[[], bool], started: Started, what: str, seconds: float = 120.0) -> None:
    """Wait until ``answers()``; raise :class:`DidNotAnswer` when the process ends first or the time is up."""
    _wait(lambda: answers() or not started.alive(), seconds)
    if not answers():
        raise DidNotAnswer(f"{what} does not answer; see {paths.logs()}")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _record(name: str) -> Path:
    return paths.run() / f"{name}.json"


def _start_ticks(pid: int) -> int | None:
    """Return field 22 of ``/proc/PID/stat`` (proc(5)); None for a process that is gone or only waits to be reaped.

    A first thread that has ended says little: as long as another one ends, files and ports are held.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and threads <= 1 else int(fields[19])
