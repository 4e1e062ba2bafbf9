# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a run: what was measured, and all that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fleet.load import Load
from tests.fleet.traffic import Traffic
from tests.measure.record import Record


@dataclass(frozen=True)
class Image:
    """The image: ``digest`` is that of its one manifest, ``layers`` the bytes of its layers by digest."""

    repository: str
    title: str
    digest: str
    layers: dict[str, int]

    @property
    def compressed(self) -> int:
        """Bytes of all layers."""
        return sum(self.layers.values())


@dataclass(frozen=True)
class Served:
    """One registry during one run."""

    traffic: Traffic
    load: Load


@dataclass(frozen=True)
class Node:
    """One host in one run: what it did, and the CPU seconds of all that ran on it.

    ``did`` is ``built``, ``fetched``, or ``saw`` (it was there).
    """

    did: str
    cpu: float
    size: int


@dataclass(frozen=True)
class Controller:
    """The cost of ``ansible-playbook``: wall seconds, CPU seconds of all its processes, and of its main process."""

    seconds: float
    cpu: float
    main_cpu: float


@dataclass(frozen=True)
class Run:
    """One strategy on some hosts."""

    nodes: dict[str, Node]
    controller: Controller
    registries: dict[str, Served]

    @property
    def cpu(self) -> float:
        """CPU seconds of all hosts."""
        return sum(node.cpu for node in self.nodes.values())

    def those(self, did: str) -> list[Node]:
        """Return the hosts that did something."""
        return [node for node in self.nodes.values() if node.did == did]


@dataclass(frozen=True)
class Pair:
    """A cold run, and the same once more, which finds all done."""

    strategy: str
    hosts: int
    cold: Run
    again: Run


@dataclass(frozen=True)
class Results(Record):
    """A whole measurement."""

    image: Image
    pairs: list[Pair]

    def pair(self, strategy: str, hosts: int) -> Pair | None:
        """Return the pair of a strategy and a number of hosts, if it was measured."""
        return next((each for each in self.pairs if (each.strategy, each.hosts) == (strategy, hosts)), None)

    def of(self, strategy: str) -> list[Pair]:
        """Return all pairs of one strategy, fewest hosts first."""
        return sorted((each for each in self.pairs if each.strategy == strategy), key=lambda each: each.hosts)
