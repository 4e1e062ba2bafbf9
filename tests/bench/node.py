# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host on which everything runs: commands by SSH, modules and playbooks by Ansible."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import lab
from tests.bench.results import Play
from tests.lab import hosts, laboratory
from tests.measure import remote
from tests.measure.command import Failed

HOST = hosts.Host(1)
BENCH = "/root/bench"
"""All that the benchmark makes on the host."""

METER = Path(__file__).with_name("meter.py")


def shell(script: str, stdin: str = "") -> str:
    """Run a script of bash on the host, and return its output."""
    return remote.shell(HOST, script, stdin)


def prepare() -> None:
    """Begin with an empty directory that holds the meter."""
    shell(f"rm -rf {BENCH}; mkdir {BENCH}; cat > {BENCH}/meter.py", METER.read_text(encoding="utf-8"))


def clear() -> None:
    """Leave nothing behind."""
    shell(f"rm -rf {BENCH}")


@contextmanager
def ready(repositories: Iterable[str]) -> Iterator[None]:
    """Bring up the lab with this host and with images that are made on demand, and leave nothing behind on the host.

    :param repositories: of the images.
    """
    lab.up(host_count=1)
    laboratory.push_images(list(repositories))
    prepare()
    try:
        yield
    finally:
        clear()


def exports(environment: Mapping[str, str]) -> str:
    """Return the beginning of a script of the host that sets variables."""
    return "".join(f"export {name}={value}; " for name, value in environment.items())


def measure(reset: str, command: str, output: str) -> tuple[dict[str, Any], str]:
    """Run a command on the host; returns what ``meter.py`` says, and what the command printed."""
    log = f"{BENCH}/log"
    task = json.dumps({"reset": reset, "command": command, "output": output, "log": log})
    figures: dict[str, Any] = json.loads(shell(f"python3 {BENCH}/meter.py", task))
    if figures.pop("status"):
        raise Failed(f"on {HOST.name}: {command}\n{shell(f'tail -n 20 {log}.err {log}.out')}")
    return figures, shell(f"cat {log}.out")


def play(task: Mapping[str, Any], environment: Mapping[str, str], **settings: str) -> tuple[Play, bool]:
    """Run one task in a playbook; returns how long that took, and whether the task changed anything.

    ``settings`` are environment variables of ``ansible-playbook``, ``environment`` those of the task.
    """
    plays = [{"hosts": HOST.name, "gather_facts": False, "environment": dict(environment), "tasks": [dict(task)]}]
    with tempfile.TemporaryDirectory() as directory:
        playbook = remote.playbook(Path(directory), plays, **settings)
        begin = time.perf_counter()
        done = subprocess.run(playbook.command, env=playbook.environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise Failed(f"{json.dumps(task)[:500]}\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
        (result,) = playbook.lines()
    return Play(seconds, result["seconds"]), result["changed"]


def sent(task: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Run one task as ``play`` does; returns the bytes that travel to the host for it."""
    with tempfile.TemporaryDirectory() as directory:
        counts = remote.Counts(Path(directory))
        play(task, environment, **counts.settings)
        return counts.sent
