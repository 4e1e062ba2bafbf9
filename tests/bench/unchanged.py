# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task that changes nothing costs a fleet, beside a ping: ``make bench ARGS=unchanged``.

Ansible runs for many hosts, all of which are the same host of the lab by other names. CPU time holds also on a busy
machine. That of the controller is the playbook's, with its ``ssh``; one run for one host tells what it costs to begin.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from tests.bench import node
from tests.bench.contenders import REGISTRY
from tests.fleet import cpu
from tests.lab import processes
from tests.lab.catalogue import BENCH_TINY
from tests.measure import remote
from tests.measure.command import Failed, say
from tests.measure.figures import KILOBYTE, MEGABYTE
from tests.measure.table import Table

HOSTS, FORKS = 100, 8  # an SSH server takes ten sessions of one connection
MANY = 1000
PING, PULL = "ansible.builtin.ping", "1 image, unchanged"


@dataclass(frozen=True)
class Cost:
    """A task for some hosts: CPU seconds of the controller, and of it for one host alone; for each host, CPU seconds
    there, and bytes that travel.
    """

    title: str
    hosts: int
    controller: float
    alone: float
    managed: float
    sent: int

    @property
    def more(self) -> float:
        """The CPU seconds of the controller for each host more."""
        return (self.controller - self.alone) / (self.hosts - 1)

    @property
    def many(self) -> float:
        """The CPU seconds of the controller that a thousand hosts would take."""
        return self.alone + (MANY - 1) * self.more


def run(hosts: int = HOSTS) -> str:
    """Measure in the lab; returns a table."""
    with node.ready(BENCH_TINY[:1]):
        return table(measure(f"{REGISTRY}/{BENCH_TINY[0]}", hosts))


def measure(name: str, hosts: int) -> list[Cost]:
    """Measure a ping, and a pull of an image that is there.

    :raises Failed: if a playbook fails, or changes something.
    """
    store = {"storage": f"{node.BENCH}/fleet", "cachedir": f"{node.BENCH}/fleet-cache", "no_https": True}
    tasks: dict[str, Mapping[str, Any]] = {
        PING: {"ansible.builtin.ping": {}},
        PULL: {"hpc.sregistry.sregistry_pull": {"name": name, **store}},
    }
    node.play(tasks[PULL], {})
    return [_cost(title, task, hosts) for title, task in tasks.items()]


def table(costs: list[Cost]) -> str:
    """Write what one host costs, and what a thousand would."""
    columns: list[tuple[str, Callable[[Cost], str]]] = [
        ("task", lambda cost: cost.title),
        ("CPU s on a host", lambda cost: f"{cost.managed:.2f}"),
        ("kB to a host", lambda cost: f"{cost.sent / KILOBYTE:.0f}"),
        ("controller CPU s, 1 host", lambda cost: f"{cost.alone:.2f}"),
        ("each host more", lambda cost: f"{cost.more:.3f}"),
        (f"{MANY} hosts", lambda cost: f"{cost.many:.0f}"),
        ("MB", lambda cost: f"{cost.sent * MANY / MEGABYTE:.0f}"),
    ]
    return Table.of(costs, *columns).text()


def _cost(title: str, task: Mapping[str, Any], hosts: int) -> Cost:
    say(f"  {title}, {hosts} hosts")
    sent = node.sent(task, {})
    alone, _one = _run(title, task, 1)
    controller, managed = _run(title, task, hosts)
    return Cost(title, hosts, controller, alone, managed / hosts, sent)


def _run(title: str, task: Mapping[str, Any], hosts: int) -> tuple[float, float]:
    """Run one task for hosts that are all one host; returns the CPU seconds of the controller, and of that host."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        names = {f"same{number}": {"ansible_host": node.HOST.address} for number in range(hosts)}
        inventory = directory / "hosts.json"
        inventory.write_text(json.dumps({"lab": {"hosts": names}}), encoding="utf-8")
        play = {"hosts": "same*", "gather_facts": False, "tasks": [dict(task)]}
        playbook = remote.playbook(directory, [play], ANSIBLE_FORKS=str(FORKS))
        command = [*playbook.command[:-1], "--inventory", str(inventory), playbook.command[-1]]
        managed, before = _managed(), getrusage(RUSAGE_CHILDREN)
        done = subprocess.run(command, env=playbook.environment, capture_output=True, text=True, check=False)
        after, lines = getrusage(RUSAGE_CHILDREN), playbook.lines()
        if done.returncode or len(lines) != hosts or any(line["changed"] for line in lines):
            raise Failed(f"{title} failed, or changed something\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
        used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return used, _managed() - managed


def _managed() -> float:
    """Return the CPU seconds of all processes that the host has had."""
    first = processes.recorded(node.HOST.name)
    if not first:
        raise Failed(f"{node.HOST.name} does not run")
    return cpu.seconds({node.HOST.name: first.pid})[node.HOST.name]
