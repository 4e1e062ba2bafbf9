# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one command on a host and says what it cost. Sent there as it is, so it imports nothing of this collection.

It reads a JSON document from its standard input (``reset``, ``command``, ``output``, ``log``) and prints another one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

INTERVAL = 0.05
"""Seconds between two looks at the memory: cheap enough not to be felt, and a packer lives much longer."""

SHELL = ("bash", "-euo", "pipefail", "-c")


class Memory(threading.Thread):
    """Watches a process and its descendants; all figures are bytes of resident memory.

    ``own`` is the peak of the process itself and ``other`` that of the largest of its descendants, both kept by the
    kernel (``VmHWM``), so that nothing is missed between two looks. ``together`` is the largest sum that was seen.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.own = self.other = self.together = 0
        self._process = process
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until told to end."""
        while not self._ended.wait(INTERVAL):
            now = 0
            for process in _family(self._process):
                peak, resident = _resident(process)
                now += resident
                if process == self._process:
                    self.own = max(self.own, peak)
                else:
                    self.other = max(self.other, peak)
            self.together = max(self.together, now)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def _family(process: int) -> list[int]:
    """Return the process and all that descend from it."""
    found = [process]
    for member in found:
        try:
            threads = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for thread in threads:
            try:
                children = Path(f"/proc/{member}/task/{thread}/children").read_text(encoding="ascii")
            except OSError:
                continue
            found.extend(map(int, children.split()))
    return found


def _resident(process: int) -> tuple[int, int]:
    """Return the peak and present resident memory of a process; nothing when it ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
    sizes = (int(fields.get(key, "0").split()[0]) << 10 for key in ("VmHWM", "VmRSS"))
    peak, resident = sizes
    return peak, resident


def _written() -> int:
    """Count bytes that this process and the children it has waited for caused to be written to block devices."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def _size(path: Path) -> int:
    """Count the bytes of a file, or of all files below a directory."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file() and not each.is_symlink())
    return path.stat().st_size


def measure(reset: str, command: str, output: str, log: str) -> dict[str, Any]:
    """Run ``reset`` unmeasured and ``command`` measured; what it prints goes to ``log``.out and ``log``.err."""
    subprocess.run([*SHELL, reset], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    os.sync()
    with open(f"{log}.out", "wb") as out, open(f"{log}.err", "wb") as err:
        written, begin = _written(), time.perf_counter()
        # Waited for below: only wait4 tells what the process used.
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            [*SHELL, command], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        memory = Memory(process.pid)
        memory.start()
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.end()
    return {
        "status": process.returncode,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "own_memory": memory.own,
        "other_memory": memory.other,
        "memory": memory.together,
        "written": _written() - written,
        "size": _size(Path(output)) if Path(output).exists() else 0,
    }


if __name__ == "__main__":
    json.dump(measure(**json.load(sys.stdin)), sys.stdout)
