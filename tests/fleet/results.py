# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured: runs and all that belongs to them, to and from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.fleet.load import Load
from tests.fleet.traffic import Traffic

MEGABYTE = 10**6


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

    ``did`` is ``built``, ``fetched``, ``saw`` (it was there) or ``failed``.
    """

    did: str
    cpu: float
    size: int


@dataclass(frozen=True)
class Controller:
    """What ``ansible-playbook`` took: wall seconds, CPU seconds of all its processes, and of its one main process."""

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
        """The hosts that did something."""
        return [node for node in self.nodes.values() if node.did == did]


@dataclass(frozen=True)
class Pair:
    """A cold run, and the same once more, which finds all done."""

    strategy: str
    hosts: int
    cold: Run
    again: Run


@dataclass(frozen=True)
class Results:
    """A whole measurement."""

    date: str
    command: str
    machine: dict[str, str]
    image: Image
    pairs: list[Pair]

    def pair(self, strategy: str, hosts: int) -> Pair | None:
        """One of them, if it was measured."""
        return next((each for each in self.pairs if (each.strategy, each.hosts) == (strategy, hosts)), None)

    def of(self, strategy: str) -> list[Pair]:
        """All of one strategy, fewest hosts first."""
        return sorted((each for each in self.pairs if each.strategy == strategy), key=lambda each: each.hosts)


def to_json(results: Results) -> str:
    """As text that :func:`from_json` reads."""
    return json.dumps(asdict(results), indent=1) + "\n"


def from_json(text: str) -> Results:
    """Read what :func:`to_json` wrote."""
    document: dict[str, Any] = json.loads(text)
    pairs = [
        Pair(each["strategy"], each["hosts"], _run(each["cold"]), _run(each["again"])) for each in document["pairs"]
    ]
    return Results(document["date"], document["command"], document["machine"], Image(**document["image"]), pairs)


def _run(document: dict[str, Any]) -> Run:
    return Run(
        {name: Node(**node) for name, node in document["nodes"].items()},
        Controller(**document["controller"]),
        {
            name: Served(Traffic(**served["traffic"]), Load(**served["load"]))
            for name, served in document["registries"].items()
        },
    )
